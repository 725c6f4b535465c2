"""A bounce is copied whole, once, with all that is known of it; what can't be worked on leaves no trace."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from bridge import audio, intake
from bridge.errors import DawbridgeError, IncompleteError, InputError, StageError, UsageError
from bridge.intake import Intake, sweep, take
from bridge.retrying import disk_code, waits_for
from bridge.sidecar import Sidecar, SidecarTempo, TempoChange, sidecar_path, write_sidecar
from bridge.types import TempoPoint
from bridge.wavchunks import Bext, tag_wav

RATE = 48000


def noise(frames: int = RATE, channels: int = 2) -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (frames, channels))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write(tmp_path / "Song.wav")


def write(path: Path, data: npt.NDArray[np.float64] | None = None, **options: Any) -> Path:
    soundfile.write(path, noise() if data is None else data, RATE, **options)
    return path


def with_acid(path: Path, bpm: float, *, flags: int = 0, metre: tuple[int, int] = (4, 4)) -> Path:
    raw = bytearray(path.read_bytes())
    raw += b"acid" + struct.pack("<IIhhfIhhf", 24, flags, 60, 0, 0.0, 8, metre[1], metre[0], bpm)
    raw[4:8] = struct.pack("<I", len(raw) - 8)
    path.write_bytes(raw)
    return path


def refusal(path: Path, spool: Path, **options: Any) -> DawbridgeError:
    with pytest.raises(DawbridgeError) as caught:
        take(path, spool=spool, **options)
    assert path.name in caught.value.message
    assert list(spool.glob("*")) == []
    return caught.value


def test_the_copy_is_the_file_and_the_file_is_untouched(song: Path, spool: Path) -> None:
    before = song.stat()
    content = song.read_bytes()
    taken = take(song, spool=spool)
    bounce = taken.bounce
    assert bounce.sha256 == hashlib.sha256(content).hexdigest()
    assert bounce.path == spool / f"{bounce.sha256}.wav"
    assert bounce.path.read_bytes() == content
    assert (bounce.name, bounce.role, bounce.frames, bounce.channels) == ("Song.wav", "mix", RATE, 2)
    assert (bounce.start_frames, bounce.tempo_map, bounce.tempo_source) == (0, None, "estimated")
    assert taken == Intake(bounce, (), None)
    after = song.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_nlink) == (before.st_mtime_ns, before.st_size, 1)
    assert bounce.path.stat().st_ino != after.st_ino


def test_the_same_audio_is_stored_once(song: Path, tmp_path: Path, spool: Path) -> None:
    first = take(song, spool=spool).bounce
    again = take(song, spool=spool).bounce
    renamed = take(Path(shutil.copy(song, tmp_path / "Other.WAV")), spool=spool).bounce
    assert first == again and renamed.path == first.path
    assert [entry.name for entry in spool.iterdir()] == [first.path.name]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.flac", {"subtype": "PCM_24"}),
        ("a.aiff", {"subtype": "PCM_16"}),
        ("a.rf64", {"format": "RF64", "subtype": "FLOAT"}),
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.mp3", {"format": "MP3", "subtype": "MPEG_LAYER_III"}),
        ("🎵 ein Lied..wav", {}),
        ("..a b.wav", {}),
    ],
)
def test_formats_and_odd_names_are_taken(
    tmp_path: Path, spool: Path, name: str, options: dict[str, Any]
) -> None:
    bounce = take(write(tmp_path / name, noise(channels=1), **options), spool=spool).bounce
    assert (bounce.name, bounce.channels, bounce.frames) == (name, 1, RATE)
    assert bounce.path.parent == spool


def test_role_goes_by_what_was_said_then_sidecar_then_name_then_folder(tmp_path: Path, spool: Path) -> None:
    named, plain = write(tmp_path / "Song_vox.wav"), write(tmp_path / "Song.wav")

    def role(path: Path, **options: str) -> str:
        return take(path, spool=spool, **options).bounce.role  # type: ignore[arg-type]

    assert role(plain) == "mix"
    assert role(plain, folder_role="drums") == "drums"
    assert role(named, folder_role="drums") == "vocals"
    write_sidecar(named, Sidecar(role="bass"))
    assert role(named, folder_role="drums") == "bass"
    assert role(named, folder_role="drums", role="other") == "other"
    with pytest.raises(UsageError, match="role 'guitar' is unknown"):
        role(plain, role="guitar")


def test_tempo_goes_by_sidecar_then_acid_then_name(tmp_path: Path, spool: Path) -> None:
    path = write(tmp_path / "Song_90bpm.wav")

    def found() -> tuple[float, str, int, int]:
        bounce = take(path, spool=spool).bounce
        tempo = bounce.tempo_map
        assert tempo and tempo.sample_rate_hz == RATE
        return tempo.points[0].bpm, bounce.tempo_source, tempo.beats_per_bar, tempo.beat_unit

    assert found() == (90.0, "name", 4, 4)
    with_acid(path, 95.0, metre=(6, 8))
    assert found() == (95.0, "acid", 6, 8)
    write_sidecar(path, Sidecar(tempo=SidecarTempo(98.0, 3, 4)))
    assert found() == (98.0, "sidecar", 3, 4)


@pytest.mark.parametrize(("flags", "bpm"), [(1, 120.0), (0, 0.0), (0, 5.0), (0, 1e9), (0, float("nan"))])
def test_a_one_shot_or_a_senseless_acid_tempo_is_no_tempo(
    song: Path, spool: Path, flags: int, bpm: float
) -> None:
    assert take(with_acid(song, bpm, flags=flags), spool=spool).bounce.tempo_map is None


def test_a_senseless_acid_metre_becomes_four_four(song: Path, spool: Path) -> None:
    tempo = take(with_acid(song, 95.0, metre=(0, -3)), spool=spool).bounce.tempo_map
    assert tempo and (tempo.beats_per_bar, tempo.beat_unit) == (4, 4)


@pytest.mark.parametrize(
    ("start_frames", "first_downbeat"),
    [(0, 0), (96_000, 0), (96_001, 95_999), (24_000, 72_000), (95_999, 1), (960_000, 0)],
)
def test_bar_lines_follow_from_the_place_on_the_timeline(
    song: Path, spool: Path, start_frames: int, first_downbeat: int
) -> None:
    """At 120 bpm and 48 kHz a bar of 4/4 is 96000 frames, and one stands at the timeline's zero."""
    write_sidecar(song, Sidecar(tempo=SidecarTempo(120.0), start_frames=start_frames))
    bounce = take(song, spool=spool).bounce
    assert bounce.start_frames == start_frames
    assert bounce.tempo_map and bounce.tempo_map.first_downbeat_frame == first_downbeat


def test_tempo_changes_come_over(song: Path, spool: Path) -> None:
    changes = (TempoChange(RATE, 60.0),)
    write_sidecar(song, Sidecar(tempo=SidecarTempo(120.0, changes=changes), start_frames=1000, key="A minor"))
    bounce = take(song, spool=spool).bounce
    assert bounce.tempo_map
    assert bounce.tempo_map.points == (TempoPoint(0, 0.0, 120.0), TempoPoint(RATE, 2.0, 60.0))
    assert bounce.tempo_map.first_downbeat_frame == 0
    assert bounce.key == "A minor"


def test_a_bar_line_that_the_daw_tells_counts_where_the_tempo_changed_before(song: Path, spool: Path) -> None:
    tempo = SidecarTempo(120.0, first_downbeat_frames=4_321)
    write_sidecar(song, Sidecar(tempo=tempo, start_frames=1000))
    bounce = take(song, spool=spool).bounce
    assert bounce.tempo_map is not None and bounce.tempo_map.first_downbeat_frame == 4_321


def test_start_goes_by_sidecar_then_bext(song: Path, spool: Path) -> None:
    tag_wav(song, Bext(start_frames=12_345), "DAW")
    assert take(song, spool=spool).bounce.start_frames == 12_345
    write_sidecar(song, Sidecar(start_frames=0))
    assert take(song, spool=spool).bounce.start_frames == 0


def test_a_bext_start_beyond_a_day_is_ignored_with_a_warning(song: Path, spool: Path) -> None:
    tag_wav(song, Bext(start_frames=2**63), "DAW")
    taken = take(song, spool=spool)
    assert taken.bounce.start_frames == 0
    (warning,) = taken.warnings
    assert "bext start" in warning


@pytest.mark.parametrize("content", ["", "nonsense", '{"tempo": {"bpm": 0}}', '{"schema": 99}'])
def test_a_sidecar_that_is_nonsense_is_a_warning_and_no_lost_bounce(
    song: Path, spool: Path, content: str
) -> None:
    sidecar_path(song).write_text(content)
    taken = take(song, spool=spool)
    assert taken.bounce.frames == RATE and taken.sidecar is None
    (warning,) = taken.warnings
    assert str(sidecar_path(song)) in warning


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff"])
def test_a_file_cut_in_half_is_incomplete(tmp_path: Path, spool: Path, name: str) -> None:
    path = write(tmp_path / name)
    cut(path)
    assert isinstance(refusal(path, spool), IncompleteError)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_numbers_are_refused(tmp_path: Path, spool: Path, bad: float) -> None:
    data = noise()
    data[-1, 1] = bad
    error = refusal(write(tmp_path / "a.wav", data, subtype="FLOAT"), spool)
    assert isinstance(error, InputError) and error.code == "not_finite"


@pytest.mark.parametrize("level", [0.0, 1 / 32768])
def test_silence_is_refused_even_with_dither(tmp_path: Path, spool: Path, level: float) -> None:
    dither = np.asarray(np.random.default_rng(0).integers(-1, 2, (RATE, 2)) * level, dtype=np.float64)
    error = refusal(write(tmp_path / "a.wav", dither), spool)
    assert isinstance(error, InputError) and error.code == "silent" and "muted" in error.message


def test_a_quiet_bounce_is_no_silence(tmp_path: Path, spool: Path) -> None:
    assert take(write(tmp_path / "a.wav", noise() * 1e-3), spool=spool).bounce.frames == RATE


def test_bad_files_are_refused_by_the_same_checks_as_probe(tmp_path: Path, spool: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    assert refusal(text, spool).code == "unreadable"
    assert refusal(tmp_path / "nowhere.wav", spool).code == "missing"
    assert refusal(write(tmp_path / "short.wav", noise(RATE // 4)), spool).code == "too_short"
    assert refusal(write(tmp_path / "six.wav", noise(channels=6)), spool).code == "channels"


def test_a_name_that_is_no_text_is_refused_in_printable_words(tmp_path: Path, spool: Path) -> None:
    with pytest.raises(InputError, match="Rename it") as caught:
        take(tmp_path / os.fsdecode(b"bad\xff.wav"), spool=spool)
    assert caught.value.code == "name"
    assert caught.value.message.isprintable() and "bad" in caught.value.message


@pytest.mark.parametrize("name_bytes", [236, 240, 241, 255])
def test_a_name_too_long_for_a_sidecar_is_taken_without_one(
    tmp_path: Path, spool: Path, name_bytes: int
) -> None:
    name = "a" * (name_bytes - len(".wav")) + ".wav"
    taken = take(Path(shutil.copy(write(tmp_path / "Song.wav"), tmp_path / name)), spool=spool)
    assert (taken.bounce.name, taken.sidecar, taken.warnings) == (name, None, ())


def test_a_sweep_frees_what_no_job_needs_and_spares_what_is_young(tmp_path: Path, spool: Path) -> None:
    def taken(name: str, frames: int, age_s: float) -> Path:
        path = take(write(tmp_path / name, noise(frames)), spool=spool).bounce.path
        os.utime(path, (time.time() - age_s,) * 2)
        return path

    needed, done, young = (
        taken("a.wav", RATE, 7200),
        taken("b.wav", RATE + 1, 7200),
        taken("c.wav", RATE + 2, 60),
    )
    leftovers = [spool / ".0123.incoming", spool / ".4567.incoming"]
    for path, age_s in zip(leftovers, (7200, 60), strict=True):
        path.write_bytes(b"half a song")
        os.utime(path, (time.time() - age_s,) * 2)
    done_bytes = done.stat().st_size
    assert sweep(spool, [needed]) == done_bytes + len(b"half a song")
    assert set(spool.iterdir()) == {needed, young, leftovers[1]}
    assert sweep(spool, [needed]) == 0
    assert sweep(tmp_path / "nowhere", []) == 0


def test_a_copy_that_is_taken_again_counts_as_young(song: Path, spool: Path) -> None:
    copy = take(song, spool=spool).bounce.path
    os.utime(copy, (0.0, 0.0))
    os.utime(song, (0.0, 0.0))
    assert take(song, spool=spool).bounce.path == copy
    assert sweep(spool, []) == 0 and copy.exists()


def test_a_link_out_of_the_watched_folder_is_refused(tmp_path: Path, spool: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    outside = write(tmp_path / "Song.wav")
    (inbox / "link.wav").symlink_to(outside)
    assert refusal(inbox / "link.wav", spool, inbox=inbox).code == "outside"
    assert take(inbox / "link.wav", spool=spool).bounce.frames == RATE  # named by hand it may be a link


def test_a_link_within_the_watched_folder_is_taken(tmp_path: Path, spool: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (tmp_path / "inbox2").symlink_to(inbox)
    (inbox / "link.wav").symlink_to(write(inbox / "Song.wav"))
    taken = take(tmp_path / "inbox2" / "link.wav", spool=spool, inbox=tmp_path / "inbox2")
    assert taken.bounce.name == "link.wav"


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def replace(path: Path) -> None:
    write(path.with_name("new.wav")).replace(path)


@pytest.mark.parametrize("meddle", [grow, replace, Path.unlink])
def test_a_file_that_changes_while_it_is_copied_is_incomplete(
    song: Path, spool: Path, monkeypatch: pytest.MonkeyPatch, meddle: Callable[[Path], object]
) -> None:
    copy = intake._copy_hashed

    def copy_and_meddle(source: BinaryIO, target: BinaryIO) -> str:
        digest = copy(source, target)
        meddle(song)
        return digest

    monkeypatch.setattr(intake, "_copy_hashed", copy_and_meddle)
    error = refusal(song, spool)
    assert isinstance(error, IncompleteError) and error.code == "changed"


def test_a_shared_copy_has_the_same_digest(song: Path, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for a file system that can share blocks."""

    def share(source: BinaryIO, target: BinaryIO) -> bool:
        target.write(song.read_bytes())
        target.seek(0)
        return True

    plain = take(song, spool=spool).bounce
    plain.path.unlink()
    monkeypatch.setattr(intake, "_reflinked", share)
    shared = take(song, spool=spool).bounce
    assert shared == plain and shared.path.read_bytes() == song.read_bytes()


def test_a_full_disk_is_told_before_and_while_copying(
    song: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(intake, "_copy_hashed", no_room)
        during = refusal(song, spool)
    with monkeypatch.context() as patch:
        patch.setattr(intake, "DISK_RESERVE_BYTES", 1 << 60)
        before = refusal(song, spool)
    for error in (during, before):
        assert isinstance(error, StageError) and error.code == "disk_full"


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("place", ["stat", "copy", "probe"])
def test_a_disk_or_share_that_is_away_for_a_moment_refuses_nothing_for_good(
    song: Path, spool: Path, monkeypatch: pytest.MonkeyPatch, number: int, place: str
) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number), str(song))

    with monkeypatch.context() as patch:
        if place == "stat":
            patch.setattr(Path, "stat", fails)
        elif place == "copy":
            patch.setattr(intake, "_copy_hashed", fails)
        else:
            patch.setattr(audio, "_probe_whole", fails)
        with pytest.raises(StageError, match=os.strerror(number)) as caught:
            take(song, spool=spool)
    assert caught.value.code == disk_code(OSError(number, "")) and waits_for(caught.value.code)
    assert list(spool.glob("*")) == []
    assert take(song, spool=spool).bounce.frames == RATE


def test_a_long_file_needs_no_more_memory_than_a_short_one(tmp_path: Path, spool: Path) -> None:
    long = write(tmp_path / "long.wav", noise(60 * RATE))  # 23 MB as float32
    tracemalloc.start()
    try:
        take(long, spool=spool)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 6_000_000
