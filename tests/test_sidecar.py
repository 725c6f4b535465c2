"""A sidecar is read whole or refused with file, key, value and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import SidecarError
from bridge.sidecar import Sidecar, SidecarTempo, TempoChange, read_sidecar, sidecar_path, write_sidecar

FULL: dict[str, Any] = {
    "schema": 1,
    "tempo": {"bpm": 98.5, "beats_per_bar": 6, "beat_unit": 8, "changes": [{"frames": 48000, "bpm": 100}]},
    "start_frames": 96000,
    "key": "F# minor",
    "role": "vocals",
    "project": "Größe 🎵",
    "track": "Lead",
    "preset": "stems-only",
    "voice": "warm-alto",
}


def put(folder: Path, content: Any) -> Path:
    path = folder / "Song.wav.dawbridge.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_every_field_is_read(tmp_path: Path) -> None:
    assert read_sidecar(put(tmp_path, FULL)) == Sidecar(
        tempo=SidecarTempo(98.5, 6, 8, (TempoChange(48000, 100.0),)),
        start_frames=96000,
        key="F# minor",
        role="vocals",
        project="Größe 🎵",
        track="Lead",
        preset="stems-only",
        voice="warm-alto",
    )


@pytest.mark.parametrize(
    "table", [{}, {"schema": 1}, {"tempo": None, "role": None, "key": None, "preset": None}]
)
def test_every_field_is_optional(tmp_path: Path, table: dict[str, Any]) -> None:
    assert read_sidecar(put(tmp_path, table)) == Sidecar()


def test_unknown_keys_are_ignored_at_every_depth(tmp_path: Path) -> None:
    table = {
        "colour": "red",
        "tempo": {"bpm": 90, "swing": 1, "changes": [{"frames": 1, "bpm": 91, "x": []}]},
    }
    assert read_sidecar(put(tmp_path, table)).tempo == SidecarTempo(90.0, changes=(TempoChange(1, 91.0),))


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert read_sidecar(put(tmp_path, '\ufeff{"role": "bass"}')).role == "bass"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    sidecar = read_sidecar(put(tmp_path, FULL))
    path = write_sidecar(tmp_path / "Other.flac", sidecar)
    assert path == sidecar_path(tmp_path / "Other.flac") == tmp_path / "Other.flac.dawbridge.json"
    assert read_sidecar(path) == sidecar
    assert json.loads(write_sidecar(tmp_path / "b.wav", Sidecar(role="bass")).read_text()) == {
        "schema": 1,
        "role": "bass",
    }


def test_a_higher_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match=r"schema = 2 is newer.*Update dawbridge"):
        read_sidecar(put(tmp_path, {"schema": 2}))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"schema": "1"}, "schema = '1'"),
        ({"schema": 0}, "schema = 0"),
        ({"schema": True}, "schema = True"),
        ({"tempo": 120}, "tempo = 120 must be a table"),
        ({"tempo": {"bpm": 0}}, "bpm = 0.0 is out of range: it must be from 20 to 999"),
        ({"tempo": {"bpm": 1e9}}, "bpm = 1000000000.0 is out of range"),
        ({"tempo": {"bpm": -120}}, "bpm = -120.0 is out of range"),
        ({"tempo": {"bpm": "120"}}, "bpm = '120' must be a number"),
        ({"tempo": {"bpm": True}}, "bpm = True must be a number"),
        ({"tempo": {"beats_per_bar": 0}}, "beats_per_bar = 0"),
        ({"tempo": {"beat_unit": 3}}, "beat_unit = 3 must be one of 1, 2, 4"),
        ({"tempo": {"bpm": 90, "changes": {}}}, "changes = {} must be a list"),
        ({"tempo": {"changes": [{"frames": 5}]}}, "bpm is missing"),
        ({"tempo": {"changes": [{"frames": -5, "bpm": 90}]}}, "frames = -5"),
        ({"tempo": {"changes": [{"frames": 5, "bpm": 90}, {"frames": 5, "bpm": 91}]}}, "rising order"),
        ({"start_frames": -1}, "start_frames = -1"),
        ({"start_frames": 1.5}, "start_frames = 1.5 must be a whole number"),
        ({"start_frames": 2**60}, "start_frames"),
        ({"role": "guitar"}, "role = 'guitar' must be one of mix, vocals"),
        ({"role": ["mix"]}, "role = .'mix'. must be one of"),
        ({"key": "H major"}, "key = 'H major' must be like 'C major'"),
        ({"key": 5}, "key = 5 must be text"),
        ({"preset": "../evil"}, "preset = '../evil' is no plain name"),
        ({"voice": "a/b"}, "voice = 'a/b' is no plain name"),
        ({"voice": ".hidden"}, "voice"),
        ({"voice": "x" * 65}, "voice"),
        ({"project": "x" * 501}, "project is longer than 500"),
        ({"project": "My \ud83d song"}, r"project = 'My .*ud83d song' holds what is no text"),
        ({"track": "\udcff"}, "track = .* holds what is no text"),
        ([], "no JSON object"),
        ("", "no JSON"),
        ("not json", "no JSON"),
        ("{", "no JSON"),
        ('{"tempo": {"bpm": NaN}}', "NaN is no number"),
        ('{"tempo": {"bpm": Infinity}}', "Infinity is no number"),
        ('{"tempo": {"bpm": 1e999}}', "bpm = inf is out of range"),
        ('{"start_frames": %s}' % ("9" * 400), "too large"),
        ('{"start_frames": %s}' % ("9" * 5000), "no JSON"),
        ("[" * 100_000, "no JSON"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_file_value_and_remedy(tmp_path: Path, table: Any, says: str) -> None:
    path = put(tmp_path, table)
    with pytest.raises(SidecarError, match=says) as caught:
        read_sidecar(path)
    assert caught.value.message.startswith(str(path))
    assert caught.value.message.endswith((".", "'"))
    assert len(caught.value.message) < 700


def test_bytes_that_are_no_text_and_huge_files_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "")
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(SidecarError, match="no JSON"):
        read_sidecar(path)
    path.write_text('{"project": "' + "x" * (1 << 20) + '"}')
    with pytest.raises(SidecarError, match="larger than 1048576 bytes"):
        read_sidecar(path)


def test_a_message_does_not_quote_a_monstrous_value_whole(tmp_path: Path) -> None:
    with pytest.raises(SidecarError) as caught:
        read_sidecar(put(tmp_path, {"role": "x" * 500_000}))
    assert len(caught.value.message) < 700


def test_a_missing_sidecar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match="can't be read"):
        read_sidecar(tmp_path / "nowhere.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*FULL, "other"]), json_values, max_size=5))
def test_any_json_is_read_or_refused_on_purpose(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, Any]
) -> None:
    path = put(tmp_path_factory.mktemp("sidecar"), table)
    try:
        read_sidecar(path)
    except SidecarError as exc:
        assert str(path) in exc.message
