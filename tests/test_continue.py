"""`dawbridge continue`, `score` and `train continuation`: what is written keeps its promises, wrong use is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import mido
import pytest

from bridge.errors import Cancelled, InputError
from bridge.midi import write_midi
from bridge.tempo import constant_tempo
from bridge.transformer.continuing import Wish, Written, continue_midi, free_name, own_key, parse_ranges
from bridge.transformer.curve import draw
from bridge.transformer.decoder import Decoder
from bridge.transformer.finetune import fine_tune, read_folder
from bridge.transformer.keys import scale_of
from bridge.transformer.sample import Metre, Sampling
from bridge.transformer.saved import save_weights
from bridge.transformer.scoring import score, score_midi
from bridge.transformer.tokens import FIELDS, encode
from bridge.types import Note, Phrase
from tests.midi_bytes import dense, metre, note, program, smf, tempo, track
from tests.tiny_model import TINY, tiny_arrays, tiny_decoder

TICKS_PER_STEP = 20
TUNE = (69, 71, 72, 76, 74, 72, 71, 69, 67, 69, 71, 72, 71, 69, 68, 69)  # A minor, once with its leading note


@pytest.fixture(scope="module")
def model() -> Decoder:
    return tiny_decoder()


@pytest.fixture
def tune(tmp_path: Path) -> Path:
    """Eight bars of 4/4 at 90 bpm: a lead in A minor, a bass and drums."""
    lead = [note(pitch) for pitch in TUNE * 2]
    bass = [note(45 - 12, 960, channel=1) for _ in range(16)]
    drums = [note(36, 480, channel=9) for _ in range(32)]
    path = tmp_path / "Tune.mid"
    path.write_bytes(
        smf(track(tempo(666_667)), track(program(80), *lead), track(program(33, 1), *bass), track(*drums))
    )
    return path


def go_on(source: Path, model: Decoder, wish: Wish | None = None, name: str = "out.mid") -> Written:
    return continue_midi(source, source.parent / name, model, wish or Wish(), model_name="tiny")


def check(path: Path, length_beats: float, key: str) -> Counter[int]:
    """Type 1, every note ended, on the grid, in key, all tracks of one exact length; notes per channel."""
    file = mido.MidiFile(path)
    assert (file.type, file.ticks_per_beat) == (1, 480)
    played: Counter[int] = Counter()
    for written in file.tracks:
        now, sounding = 0, set()
        for message in written:
            now += message.time
            if message.type == "note_on":
                assert now % TICKS_PER_STEP == 0
                assert message.note not in sounding
                assert message.channel == 9 or not key or message.note % 12 in scale_of(key)
                sounding.add(message.note)
                played[message.channel] += 1
            elif message.type == "note_off":
                sounding.remove(message.note)
        assert not sounding
        assert now == round(length_beats * 480)
    return played


def test_what_comes_next_is_of_exact_length_on_the_grid_and_in_the_tunes_own_key(
    tune: Path, model: Decoder
) -> None:
    written = go_on(tune, model)
    assert written.key == "A minor"
    assert check(written.path, 32.0, "A minor").total() == sum(written.notes.values()) > 0
    assert set(written.notes) <= {"lead", "bass", "drums"}


def test_it_goes_on_at_the_tempo_and_in_the_metre_of_the_end_and_says_where_it_comes_from(
    tmp_path: Path, model: Decoder
) -> None:
    source = tmp_path / "waltz.mid"
    played = [metre(3, 2), tempo(500_000), *(note(72) for _ in range(24)), tempo(600_000), note(71), note(69)]
    source.write_bytes(smf(track(program(73), *played)))
    written = go_on(source, model, Wish(bars=5, sampling=Sampling(seed=7)))
    assert (written.beats_per_bar, written.beat_unit, round(written.bpm, 3)) == (3, 4, 100.0)
    check(written.path, 15.0, written.key)
    first = mido.MidiFile(written.path).tracks[0]
    assert [m.tempo for m in first if m.type == "set_tempo"] == [600_000]
    [text] = [m.text for m in first if m.type == "text"]
    assert text.startswith("dawbridge ")
    assert "model=tiny bars=5" in text
    assert text.endswith("seed=7")


@pytest.mark.parametrize("signature", [(1, 6), (31, 4), (5, 6), (6, 3), (7, 3)])
@pytest.mark.parametrize("bars", [1, 7])
def test_bars_of_any_metre_are_counted_exactly(
    tmp_path: Path, model: Decoder, signature: tuple[int, int], bars: int
) -> None:
    source = tmp_path / "odd.mid"
    source.write_bytes(smf(track(metre(*signature), program(73), *(note(60 + n, 240) for n in range(12)))))
    written = go_on(source, model, Wish(bars=bars))
    check(written.path, bars * signature[0] * 4 / 2 ** signature[1], written.key)


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tune: Path, model: Decoder) -> None:
    files = []
    for index, seed in enumerate((1, 1, 2)):
        (tune.parent / str(index)).mkdir()
        wish = Wish(sampling=Sampling(seed=seed))
        files.append(go_on(tune, model, wish, f"{index}/out.mid").path.read_bytes())
    assert files[0] == files[1]
    assert files[0].split(b"MTrk")[2:] != files[2].split(b"MTrk")[2:]


def test_parts_key_range_and_density_are_kept(tune: Path, model: Decoder) -> None:
    wish = Wish(16, ("bass", "strings"), "Eb dorian", {"bass": (30, 41)}, 1.0, Sampling(temperature=2.0))
    written = go_on(tune, model, wish)
    assert set(written.notes) == {"bass", "strings"}
    assert all(30 <= n.pitch <= 41 for n in written.phrase.notes if n.part == "bass")
    assert max(written.notes.values()) <= 64
    check(written.path, 64.0, "Eb dorian")


def test_all_twelve_notes_are_free_if_asked(tune: Path, model: Decoder) -> None:
    written = go_on(tune, model, Wish(bars=16, key="free"))
    assert written.key == ""
    assert {n.pitch % 12 for n in written.phrase.notes if n.part == "lead"} - scale_of("A minor")


def test_drums_alone_go_on_as_drums(tmp_path: Path, model: Decoder) -> None:
    source = tmp_path / "drums.mid"
    source.write_bytes(smf(track(*(note(36, 240, channel=9) for _ in range(32)))))
    written = go_on(source, model)
    assert (set(written.notes), written.key) == ({"drums"}, "")


def test_a_file_without_notes_says_so_and_named_parts_play_all_the_same(
    tmp_path: Path, model: Decoder
) -> None:
    source = tmp_path / "empty.mid"
    source.write_bytes(smf(track()))
    with pytest.raises(InputError, match="no notes"):
        go_on(source, model)
    assert not source.with_name("out.mid").exists()
    assert set(go_on(source, model, Wish(bars=2, parts=("piano",))).notes) <= {"piano"}


def test_three_hours_go_on_from_their_end(tmp_path: Path, model: Decoder) -> None:
    source = tmp_path / "long.mid"
    source.write_bytes(dense(32_400))
    check(go_on(source, model, Wish(bars=1)).path, 4.0, "")


def test_nothing_is_ever_overwritten(tune: Path, model: Decoder) -> None:
    before = tune.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        continue_midi(tune, tune, model, Wish(), model_name="tiny")
    assert tune.read_bytes() == before
    assert free_name(tune).name == "Tune_continuation.mid"
    go_on(tune, model, name="Tune_continuation.mid")
    assert free_name(tune).name == "Tune_continuation (2).mid"


def test_whoever_stops_it_gets_no_file(tune: Path, model: Decoder) -> None:
    def stop(done: float, total: float) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        continue_midi(tune, tune.with_name("out.mid"), model, Wish(), model_name="tiny", report=stop)
    assert [path.name for path in tune.parent.iterdir()] == ["Tune.mid"]


@pytest.mark.parametrize(
    ("pitches", "key"),
    [
        ((60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60), "C major"),
        ((67, 69, 71, 72, 74, 76, 77, 79, 77, 79, 74, 71, 67), "G mixolydian"),
        ((69, 71, 72, 74, 76, 77, 80, 81, 80, 81, 76, 72, 69), "A harmonic minor"),
    ],
)
def test_the_own_key_is_the_scale_that_holds_the_notes(pitches: Sequence[int], key: str) -> None:
    notes = tuple(Note(n * 1.0, 1.0, pitch, 80, "lead") for n, pitch in enumerate(pitches))
    assert own_key(encode(Phrase(notes, 16.0))) == key


@pytest.mark.parametrize("text", ["bass", "bass=", "bass=28", "kazoo=1-2", "bass=a-b", "bass=-1-5"])
def test_a_range_that_is_none_is_told(text: str) -> None:
    with pytest.raises(InputError, match="bass=28-50"):
        parse_ranges([text])


# score


def phrase_of(pitches: Sequence[int], by: int = 0) -> Phrase:
    notes = tuple(Note(n * 0.5, 0.5, pitch + by, 80, "lead") for n, pitch in enumerate(pitches))
    return Phrase(notes, len(pitches) * 0.5)


def test_a_candidates_bits_are_the_sum_of_its_fields(model: Decoder) -> None:
    found = score(phrase_of(TUNE), phrase_of(TUNE[:7]), Metre(4.0), model)
    assert found.notes == 7
    assert tuple(found.bits_by_field) == FIELDS
    assert sum(found.bits_by_field.values()) == pytest.approx(found.bits_per_note, abs=1e-3)
    assert 1.0 < found.bits_per_note < 60.0


def test_prompt_and_candidate_in_another_key_cost_the_same(model: Decoder) -> None:
    """Both are brought to the prompt's key."""
    found = [score(phrase_of(TUNE, by), phrase_of(TUNE, by), Metre(4.0), model) for by in (0, 3, -4)]
    assert found[0] == found[1] == found[2]
    strange = score(phrase_of(TUNE), phrase_of(TUNE, 3), Metre(4.0), model)
    assert strange.bits_by_field["pitch"] != found[0].bits_by_field["pitch"]


def test_silence_before_the_first_note_costs_and_the_prompts_own_notes_do_not(model: Decoder) -> None:
    late = Phrase(
        tuple(Note(n.start_beats + 20.0, 0.5, n.pitch, 80, "lead") for n in phrase_of(TUNE).notes), 28.0
    )
    known, alone = phrase_of(TUNE), Phrase(phrase_of(TUNE).notes[:1], 8.0)
    assert score(known, late, Metre(4.0), model).notes == len(TUNE)
    assert score(alone, phrase_of(TUNE[:1]), Metre(4.0), model).notes == 1


def test_a_candidate_without_notes_or_without_end_is_told(tmp_path: Path, tune: Path, model: Decoder) -> None:
    empty, endless = tmp_path / "empty.mid", tmp_path / "endless.mid"
    empty.write_bytes(smf(track()))
    endless.write_bytes(smf(track(note(60), note(62, delta=0x0FFFFFF))))
    with pytest.raises(InputError, match=r"empty\.mid holds no notes"):
        score_midi(tune, empty, model)
    with pytest.raises(InputError, match="longer than 256 bars"):
        score_midi(tune, endless, model)


# train continuation


def write_songs(folder: Path, count: int) -> None:
    """Different pieces of 64 notes."""
    folder.mkdir(exist_ok=True)
    for n in range(count):
        pitches = [60 + (step * (n + 2) + step * step // (n + 3)) % 19 for step in range(64)]
        write_midi(folder / f"song{n}.mid", phrase_of(pitches), constant_tempo(120.0, 44_100))


def test_a_folder_is_read_each_piece_once_and_the_rest_is_named_and_skipped(tmp_path: Path) -> None:
    write_songs(tmp_path / "in", 12)
    (tmp_path / "in" / "deeper").mkdir()
    (tmp_path / "in" / "deeper" / "COPY.MID").write_bytes((tmp_path / "in" / "song3.mid").read_bytes())
    (tmp_path / "in" / "broken.mid").write_bytes(b"no MIDI")
    (tmp_path / "in" / "short.midi").write_bytes(smf(track(note(60))))
    music = read_folder(tmp_path / "in")
    assert music.files == 12
    assert {path.name: reason for path, reason in music.skipped.items()}.keys() == {
        "song3.mid",
        "broken.mid",
        "short.midi",
    }
    assert Counter(work.split for work in music.works) == {"train": 10, "valid": 2}


def test_a_long_file_is_several_works_on_one_side(tmp_path: Path) -> None:
    write_songs(tmp_path, 3)
    (tmp_path / "long.mid").write_bytes(dense(5_000))
    music = read_folder(tmp_path)
    long = [work for work in music.works if work.name.startswith("long.mid")]
    assert len(long) == 3
    assert len({work.split for work in long}) == 1
    assert max(len(work.notes) for work in long) <= 8_000


@pytest.mark.parametrize(
    ("count", "says"), [(0, "holds no MIDI files"), (2, "holds 2 MIDI files to learn from")]
)
def test_too_few_files_are_told(tmp_path: Path, count: int, says: str) -> None:
    write_songs(tmp_path / "in", count)
    with pytest.raises(InputError, match=says):
        read_folder(tmp_path / "in")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read_folder(tmp_path / "gone")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", ".hidden", "dawbridge-small", "x" * 65])
def test_a_name_that_cannot_be_a_folder_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="can't be a model's name"):
        fine_tune(tmp_path, name, tmp_path, tmp_path / "base.safetensors")


def test_a_model_of_ones_own_is_made_and_a_later_call_goes_on(tmp_path: Path) -> None:
    write_songs(tmp_path / "in", 5)
    base = tmp_path / "base.safetensors"
    save_weights(base, tiny_arrays(), TINY)
    made = fine_tune(tmp_path / "in", "mine", tmp_path, base, steps=4)
    assert (made.files, made.steps) == (5, 4)
    assert made.bits_after < made.bits_before  # from random weights there is only one way
    assert {path.name for path in made.folder.iterdir()} == {
        "weights.safetensors", "curve.json", "curve.svg", "card.md", "checkpoint.pt",
    }  # fmt: skip
    card = (made.folder / "card.md").read_text("utf-8")
    assert "the user's own MIDI files: 5 files, 320 notes" in card
    assert f"{made.bits_after:.3f}" in card
    again = fine_tune(tmp_path / "in", "mine", tmp_path, base, steps=6)
    assert again.steps == 6
    assert len(json.loads((made.folder / "curve.json").read_text())) == 2


def test_the_minutes_are_kept(tmp_path: Path) -> None:
    write_songs(tmp_path / "in", 3)
    base = tmp_path / "base.safetensors"
    save_weights(base, tiny_arrays(), TINY)
    with pytest.raises(InputError, match="too few for the first 25 steps"):
        fine_tune(tmp_path / "in", "mine", tmp_path, base, steps=10_000, minutes=1e-9)


def test_the_curve_is_a_small_picture_that_is_the_same_each_time(tmp_path: Path) -> None:
    curve = [
        {
            "step": step,
            "learning_rate": 1e-3 / step,
            "train_bits": 9.0 / step,
            "valid_bits": 8.0 / step,
            "valid_accuracy": 0.5,
            "by_source": {"own": 8.0 / step, "bach": 7.0 / step},
        }
        for step in range(250, 20_000, 250)
    ]
    for name in ("a.svg", "b.svg"):
        draw(curve, tmp_path / name)
    picture = (tmp_path / "a.svg").read_bytes()
    assert picture == (tmp_path / "b.svg").read_bytes()
    assert len(picture) < 200_000
    assert b"learning rate" in picture
    draw(curve[:1], tmp_path / "a.svg")


# the verbs


def dawbridge(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False, env=os.environ)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_the_verbs_speak_json(tune: Path, dawbridge_home: Path) -> None:
    own = dawbridge_home / "data" / "models" / "continuation" / "tiny"
    own.mkdir(parents=True, exist_ok=True)
    save_weights(own / "weights.safetensors", tiny_arrays(), TINY)
    done = dawbridge(
        "continue", tune, "--model", "tiny", "--bars", 4, "--parts", "lead, bass", "--seed", 3, "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["file"] == str(tune.with_name("Tune_continuation.mid"))
    assert (told["length_beats"], told["key"], told["seed"]) == (16.0, "A minor", 3)
    check(Path(told["file"]), 16.0, "A minor")
    scored = dawbridge("score", tune, told["file"], "--model", "tiny", "--json")
    assert json.loads(scored.stdout)["notes"] == sum(told["notes"].values())
    spoken = dawbridge("continue", tune, "--model", "tiny", "--bars", 2)
    assert "2 bars of 4/4 in A minor at 90.00 bpm" in spoken.stdout
    assert "Tune_continuation (2).mid" in spoken.stdout


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["continue", "gone.mid"], "can't be read", 2),
        (["continue", "Tune.mid", "--bars", "0"], "bars is 0", 2),
        (["continue", "Tune.mid", "--key", "H major"], "is no key", 2),
        (["continue", "Tune.mid", "--parts", "kazoo"], "is no part", 2),
        (["continue", "Tune.mid", "--range", "bass=50-40"], "50-40", 2),
        (["continue", "Tune.mid", "--out", "Tune.mid"], "exists already", 2),
        (["continue", "Tune.mid", "--out", "no/such/folder.mid"], "can't be written", 1),
        (["score", "Tune.mid", "gone.mid"], "can't be read", 2),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_and_an_exit_code(
    tune: Path, dawbridge_home: Path, arguments: list[str], says: str, code: int
) -> None:
    own = dawbridge_home / "data" / "models" / "continuation" / "tiny"
    own.mkdir(parents=True, exist_ok=True)
    save_weights(own / "weights.safetensors", tiny_arrays(), TINY)
    command = [sys.executable, "-m", "bridge", *arguments, "--model", "tiny"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False, cwd=tune.parent)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
