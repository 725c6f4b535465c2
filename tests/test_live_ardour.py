"""A real DAW leads the companion: on its grid, answers to its tracks, silence at its stop, no break at its loop.

JACK, Ardour, the live process and, but for the grid, the generator are real. A DAW's tracks sound a period of JACK
before its clock tells their beat: two tests on a clock of our own hold what must not follow from that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.config import LiveConfig
from bridge.live import wire
from bridge.live.controls import Controls
from bridge.midi import write_midi
from bridge.tempo import constant_tempo
from bridge.transformer.keys import scale_of
from bridge.types import Note, Phrase
from tests.ardour import HAVE_ARDOUR, Ardour, TakenNote, read_notes
from tests.benchmarks.live_ardour import (
    BAR_BEATS,
    NEAR_BEATS,
    Deviation,
    bar_line,
    connect,
    deviation,
    frames,
    measure,
    own_offset_ms,
    period_ms,
    started_ardour,
)
from tests.jack import RATE_HZ, wait_until
from tests.live_jack import Companion, Ear, companion, connect_in, connect_out, ear
from tests.live_stage import MS, Stage
from tests.real import require_real

BPM = 120.0
BEAT_S = 0.5
PERIOD_FRAMES = 256
EARLY_NS = 8 * MS  # a period of 256 frames, and what the cutting into periods adds
KEY = "A minor"
PART, SEED = "piano", 3  # many notes
TUNE = ((0.0, 69), (0.5, 72), (1.0, 76), (1.5, 74), (2.0, 72), (3.0, 71), (3.5, 67), (4.0, 69), (5.0, 64))
TUNE_FROM, TUNE_END = 4.0, 10.0  # from bar 2 on, a bar and a half
ANSWER_LINE = 12.0
HALF_A_STEP_BEATS = 1 / 48  # more would be another place in the bar
MOST_STD_MS = 2.5
ATTEMPTS = 2  # a machine that stops for 20 ms shows in the spread, and that is not ours
EVENT_S = 20.0
SILENT_S = 1.0

in_its_turn = pytest.mark.timeout(300)  # each takes 15 to 25 s, and waits until no other worker uses JACK


@pytest.mark.real
@pytest.mark.daw
@in_its_turn
@pytest.mark.parametrize(("period_frames", "from_bar"), [(64, 2), (256, 0), (256, 2)])
def test_what_it_plays_lies_on_the_grid_of_the_daw_that_leads_it(
    period_frames: int, from_bar: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_ardour()
    for attempt in range(ATTEMPTS):
        take = measure(tmp_path / str(attempt), period_frames, from_bar)
        show(capsys, f"period {period_frames}, from bar {from_bar + 1}", take)
        if take.std_ms <= MOST_STD_MS:
            break
    check_grid(take, period_frames, from_bar)
    assert take.begins_beats - from_bar * BAR_BEATS in (BAR_BEATS, 2 * BAR_BEATS), take


@pytest.mark.real
@pytest.mark.daw
@in_its_turn
def test_a_track_is_answered_on_the_bar_line_in_its_key_and_the_file_is_what_was_played(
    tmp_path: Path, dawbridge_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_ardour()
    with led_by_ardour(
        tmp_path, Controls(bars=2, key=KEY, part=PART, seed=SEED), musician=tune_file(tmp_path)
    ) as (ardour, ours):
        roll_and_record(ardour)
        ours.wait(lambda: ours.of("take"), "a take", EVENT_S)
        time.sleep(SILENT_S)
        ardour.stop()
        ardour.save()
        recorded = ardour.read_take()
    [take] = ours.of("take")
    written = read_notes(Path(take["path"]))
    found = deviation(recorded, [(note.start_beats, note.pitch) for note in written], ANSWER_LINE, BPM)
    show(capsys, "reply", found)
    assert Path(take["path"]).parent == tmp_path / "outbox" / "live"
    assert len(written) == take["notes"] > 0 and not take["is_cut"]
    check_grid(found, PERIOD_FRAMES, from_bar=0)
    assert {note.pitch % 12 for note in recorded} <= scale_of(KEY)
    starts = [note.start_beats for note in recorded]
    assert ANSWER_LINE - HALF_A_STEP_BEATS <= starts[0] < ANSWER_LINE + BAR_BEATS
    assert ANSWER_LINE + BAR_BEATS - HALF_A_STEP_BEATS <= starts[-1] < ANSWER_LINE + 2 * BAR_BEATS


@pytest.mark.real
@pytest.mark.daw
@in_its_turn
def test_a_stop_of_the_daw_ends_every_note_and_then_it_plays_again(
    tmp_path: Path, dawbridge_home: Path
) -> None:
    require_ardour()
    controls = Controls(bars=8, key=KEY, part=PART, seed=SEED)
    with led_by_ardour(tmp_path, controls) as (ardour, ours), ear() as heard:
        connect_out(ardour.jack, heard)
        roll_and_record(ardour)
        answer_now(ours)
        wait_until(lambda: note_ons(heard) >= 4, "the reply", EVENT_S)
        wait_until(lambda: is_sounding(heard), "a note that sounds", EVENT_S, 0.005)
        ardour.stop()
        wait_until(lambda: not ours.state["playing"], "a companion that stands", SILENT_S)
        wait_until(lambda: not is_sounding(heard), "silence", SILENT_S)
        stopped_beats = ardour.position_frames() / RATE_HZ / BEAT_S
        ours.wait(lambda: ours.of("take"), "the take of the reply that was cut")
        ardour.save()
        [cut] = ours.of("take")
        assert cut["is_cut"]
        check_hung(ardour.read_take(), read_notes(Path(cut["path"])), stopped_beats)

        before = note_ons(heard)
        ours.ask("bars", 2)
        ardour.play()
        answer_now(ours)
        ours.wait(lambda: len(ours.of("take")) == 2, "the take of the reply after the stop", EVENT_S)
        again = ours.of("take")[1]
        assert not again["is_cut"]
        assert note_ons(heard) - before == again["notes"] > 0


@pytest.mark.real
@pytest.mark.daw
@in_its_turn
def test_a_reply_goes_on_over_the_seam_of_a_loop(
    tmp_path: Path, dawbridge_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_ardour()
    controls = Controls(bars=4, key=KEY, part=PART, seed=SEED)
    with led_by_ardour(tmp_path, controls) as (ardour, ours), ear() as heard:
        connect_out(ardour.jack, heard)
        ardour.loop(frames(2 * BAR_BEATS, BPM), frames(4 * BAR_BEATS, BPM))
        answer_now(ours)
        ours.wait(lambda: ours.of("take"), "a take", EVENT_S)
        time.sleep(SILENT_S)
        [take] = ours.of("take")
        show(capsys, "in a loop", f"{note_ons(heard)} notes sent of {take['notes']} written")
        assert not take["is_cut"]
        assert note_ons(heard) == take["notes"] > 0
        assert not is_sounding(heard)


def test_a_note_that_comes_a_hair_before_the_start_is_the_first_of_the_phrase() -> None:
    stage = Stage(Controls(clock="midi"))
    stage.run_beats(2.7)
    stage.midi(wire.note_on(0, 57, 90))
    stage.run_until(stage.now_ns + EARLY_NS)
    stage.midi(bytes((wire.START,)))
    tick(stage, beats=2.0)
    stage.midi(wire.note_off(0, 57))
    tick(stage, beats=3.0)
    [context] = stage.of_type("context")[:1]
    [start, length, *_] = context["notes"][0]
    assert start % BAR_BEATS == pytest.approx(0.0, abs=1e-6)
    assert length == pytest.approx(2.0, abs=0.05)
    assert [ask["from_beat"] for ask in stage.of_type("ask")] == [start + BAR_BEATS]


def test_a_musician_who_comes_in_with_the_end_of_a_reply_a_hair_early_cuts_nothing() -> None:
    stage = Stage(Controls(clock="internal", bars=1))
    stage.conductor.start_internal(0)
    stage.play(60, 1.0)
    stage.run_until(round(2 * BAR_BEATS * BEAT_S * 1e9) - EARLY_NS)  # the reply is in bar 2
    stage.midi(wire.note_on(0, 62, 90))
    stage.run_beats(1.0)
    [played] = stage.of_type("played")
    assert not played["is_cut"] and len(played["notes"]) == 8
    stage.midi(wire.note_off(0, 62))
    stage.run_beats(8.0)
    assert [ask["from_beat"] for ask in stage.of_type("ask")] == [BAR_BEATS, 3 * BAR_BEATS]


@contextmanager
def led_by_ardour(
    folder: Path, controls: Controls, musician: Path | None = None
) -> Iterator[tuple[Ardour, Companion]]:
    """The whole companion; Ardour's clock, and a track of its, come in, and the track `take` can record it."""
    with (
        started_ardour(folder / "ardour", PERIOD_FRAMES, BPM, musician) as ardour,
        companion(folder / "outbox", LiveConfig(midi="jack", controls=controls)) as ours,
    ):
        connect(ardour)
        if musician is not None:
            connect_in(ardour.jack, ardour.output_of("musician"))
        yield ardour, ours


def tune_file(folder: Path) -> Path:
    """What the musician plays."""
    starts = [TUNE_FROM + start for start, _ in TUNE]
    ends = [*starts[1:], TUNE_END]
    notes = [
        Note(start, 0.9 * (end - start), pitch, 90, "piano")
        for (_, pitch), start, end in zip(TUNE, starts, ends, strict=True)
    ]
    path = folder / "tune.mid"
    write_midi(path, Phrase(tuple(notes), ANSWER_LINE), constant_tempo(BPM, RATE_HZ))
    return path


def roll_and_record(ardour: Ardour) -> None:
    """From zero, on the track `take`."""
    ardour.arm("take")
    ardour.locate(0)
    ardour.record_enable()
    ardour.play()


def answer_now(ours: Companion) -> None:
    """From the next bar line on, once it follows Ardour."""
    ours.wait(lambda: ours.state["playing"] and ours.state["source"] == "midi", "a clock that is followed")
    ours.ask("answer")


def check_grid(take: Deviation, period_frames: int, from_bar: int) -> None:
    """All there, all ended, all on the grid."""
    assert (take.lost, take.extra, take.hung) == (0, 0, 0), take
    assert take.std_ms <= MOST_STD_MS, take
    assert abs(take.median_ms - own_offset_ms(period_frames, from_bar)) <= period_ms(period_frames), take


def check_hung(recorded: list[TakenNote], written: list[TakenNote], stopped_beats: float) -> None:
    """What the take shows without an end is only what sounded when the DAW stopped: it records no note-off then."""
    line = bar_line(recorded[0].start_beats - written[0].start_beats)
    for note in recorded:
        if note.length_beats is None:
            [as_written] = [
                one
                for one in written
                if one.pitch == note.pitch and abs(line + one.start_beats - note.start_beats) < NEAR_BEATS
            ]
            assert (
                line + as_written.start_beats + (as_written.length_beats or 0.0) > stopped_beats - NEAR_BEATS
            )


def note_ons(heard: Ear) -> int:
    """How many notes were struck."""
    return sum(map(wire.is_note_on, heard.messages))


def is_sounding(heard: Ear) -> bool:
    """By notes alone, as many synthesizers hear it."""
    return bool(heard.instrument(heeds_controllers=False).on)


def tick(stage: Stage, beats: float) -> None:
    """MIDI clock at 120 bpm."""
    for _ in range(round(beats * 24)):
        stage.midi(bytes((wire.CLOCK,)))
        stage.run_beats(1 / 24)


def require_ardour() -> None:
    require_real(HAVE_ARDOUR, "JACK, Xvfb and Ardour 7 (Debian: apt install jackd2 xvfb ardour)")


def show(capsys: pytest.CaptureFixture[str], what: str, *figures: object) -> None:
    """Past pytest's capture, so that every run shows them."""
    with capsys.disabled():
        print(f"\n{what}:", *figures, sep="\n  ")
