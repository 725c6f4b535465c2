"""The live partner keeps every promise, whatever is played and asked; its process answers, listens and lets go."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bridge.errors import InputError
from bridge.livehost import improviser
from bridge.livehost.ear import MOST_NOTES, Ear
from bridge.livehost.generator import Generator
from bridge.livehost.improviser import Ask, Improviser, WrittenBar
from bridge.livehost.piped import start_generator
from bridge.transformer.constraints import POLYPHONY, RANGES, Constraints
from bridge.transformer.decoder import Decoder
from bridge.transformer.keys import scale_of
from bridge.transformer.parts import PARTS
from bridge.transformer.sample import Metre, Sampling, continue_phrase
from bridge.transformer.shipped import SHIPPED
from bridge.transformer.tokens import REST, SIZES, STEPS_PER_BEAT
from bridge.types import Note, Phrase
from tests.returned_song import made_song
from tests.tiny_model import TINY, busy_decoder, tiny_arrays, tiny_decoder

MODEL = tiny_decoder()
BUSY = busy_decoder()
C_MAJOR = (60, 62, 64, 65, 67, 69, 71)
ASK = Ask(id=1, from_beat=16.0, bars=2, parts=("piano",), temperature=1.5, top_p=1.0, min_p=0.0, seed=5)
TUNE = tuple(Note(beat / 2, 0.5, C_MAJOR[beat * 3 % 7], 90, "piano") for beat in range(24))


def written(partner: Improviser, ask: Ask) -> list[WrittenBar]:
    return list(partner.write(ask))


def heard(notes: list[Note] | tuple[Note, ...], model: Decoder = MODEL, bar_beats: float = 4.0) -> Improviser:
    partner = Improviser(model, bar_beats)
    partner.hear(notes)
    return partner


def check(bars: list[WrittenBar], ask: Ask, bar_beats: float, key: str) -> None:
    """Everything that is promised of any reply."""
    assert [bar.index for bar in bars] == list(range(ask.bars))
    assert [bar.is_last for bar in bars] == [False] * (ask.bars - 1) + [True]
    end = ask.from_beat + ask.bars * bar_beats
    sounding: dict[str, list[Note]] = {}
    for bar in bars:
        start = ask.from_beat + bar.index * bar_beats
        in_bar = dict.fromkeys(PARTS, 0)
        for note in bar.notes:
            assert note.part in ask.parts
            assert start <= note.start_beats < start + bar_beats
            assert note.length_beats > 0
            assert note.start_beats + note.length_beats <= end + 1e-9
            steps = (note.start_beats - ask.from_beat) * STEPS_PER_BEAT
            assert steps == pytest.approx(round(steps), abs=1e-6)
            low, high = {**RANGES, **ask.ranges}[note.part]
            assert low <= note.pitch <= high
            assert 1 <= note.velocity <= 127
            assert not key or note.part == "drums" or note.pitch % 12 in scale_of(key)
            others = [
                other
                for other in sounding.get(note.part, [])
                if other.start_beats + other.length_beats > note.start_beats + 1e-9
            ]
            assert note.pitch not in [other.pitch for other in others]
            sounding[note.part] = [*others, note]
            assert len(sounding[note.part]) <= POLYPHONY[note.part]
            in_bar[note.part] += 1
        if ask.most_notes_per_beat is not None:
            assert max(in_bar.values()) <= max(1, int(ask.most_notes_per_beat * bar_beats))


any_notes = st.lists(
    st.builds(
        Note,
        st.floats(-40.0, 900.0) | st.floats(0.0, 24.0),
        st.floats(0.0, 40.0),
        st.integers(0, 127),
        st.integers(1, 127),
        st.sampled_from(PARTS),
    ),
    max_size=30,
)
any_ask = st.builds(
    Ask,
    id=st.integers(0, 9),
    from_beat=st.integers(-3, 80).map(float),  # bars, until the metre is known
    bars=st.integers(1, 3),
    parts=st.lists(st.sampled_from(PARTS), min_size=1, unique=True).map(tuple),
    key=st.sampled_from(["follow", "free", "A minor", "Eb major", "F# dorian", "Bm"]),
    ranges=st.fixed_dictionaries(
        {}, optional={part: st.tuples(st.integers(30, 60), st.integers(72, 100)) for part in PARTS}
    ),
    most_notes_per_beat=st.none() | st.floats(0.25, 6.0),
    temperature=st.floats(0.8, 3.0),
    top_p=st.just(1.0),
    min_p=st.just(0.0),
    seed=st.integers(0, 2**31),
    planned=any_notes.map(lambda notes: tuple(notes[:4])),
)
widely = settings(
    max_examples=50,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


@widely
@given(
    calls=st.lists(any_notes, max_size=3),
    ask=any_ask,
    bar_beats=st.sampled_from([4.0, 3.0, 3.5, 1.5, 0.5]),
    model=st.sampled_from([MODEL, BUSY]),
)
def test_whatever_was_played_and_asked_every_rule_holds_and_the_same_again_gives_the_same(
    calls: list[list[Note]], ask: Ask, bar_beats: float, model: Decoder
) -> None:
    ask = replace(ask, from_beat=ask.from_beat * bar_beats)
    first, second = Improviser(model, bar_beats), Improviser(model, bar_beats)
    for notes in calls:
        first.hear(notes)
        second.hear(notes)
    bars = written(first, ask)
    check(bars, ask, bar_beats, first.key_for(ask.key))
    assert written(first, ask) == bars, "what was only planned was heard"
    assert written(second, ask) == bars


def test_hundreds_of_bars_never_change_a_bar_that_was_given() -> None:
    partner = heard(TUNE, BUSY)
    for seed in range(12):
        ask = replace(
            ASK, bars=16, parts=("lead", "piano", "bass", "strings"), temperature=2.5, seed=seed, key="free"
        )
        bars = written(partner, ask)
        check(bars, ask, 4.0, "")
        over_bar_lines = [
            note
            for bar in bars
            for note in bar.notes
            if note.start_beats + note.length_beats > ask.from_beat + (bar.index + 1) * 4.0
        ]
        assert over_bar_lines, "no note was long enough to prove anything"


def test_a_bar_written_live_is_the_one_that_continue_writes() -> None:
    ask = replace(ASK, from_beat=12.0, bars=1, key="free", parts=("piano", "bass"))
    live = written(heard(TUNE), ask)[0].notes
    constraints = Constraints(parts=ask.parts, grid_steps=6)
    sampling = Sampling(ask.temperature, ask.top_p, ask.min_p, ask.seed)
    offline = continue_phrase(MODEL, Phrase(TUNE, 12.0), 1, Metre(4.0), constraints, sampling)
    assert live
    assert [replace(note, start_beats=note.start_beats - 12.0) for note in live] == list(offline.notes)


def test_music_in_another_key_is_answered_the_same_way_in_that_key() -> None:
    ranges = {"piano": (48, 84)}
    answer = written(heard(TUNE), replace(ASK, ranges=ranges))
    moved = [replace(note, pitch=note.pitch + 3) for note in TUNE]
    higher = written(heard(moved), replace(ASK, ranges={"piano": (51, 87)}))
    assert [[(n.start_beats, n.pitch + 3) for n in bar.notes] for bar in answer] == [
        [(n.start_beats, n.pitch) for n in bar.notes] for bar in higher
    ]


def test_what_is_planned_counts_as_if_it_had_been_heard() -> None:
    both = heard(TUNE)
    both.hear(PLANNED)
    assert written(heard(TUNE), replace(ASK, planned=PLANNED)) == written(both, ASK)


PLANNED = tuple(Note(12.0 + beat, 1.0, 60 + beat, 80, "piano") for beat in range(4))


def test_a_reply_that_is_taken_back_is_forgotten() -> None:
    partner = heard(TUNE)
    before = written(partner, ASK)
    partner.hear(PLANNED)
    assert written(partner, ASK) != before
    partner.forget(PLANNED)
    assert written(partner, ASK) == before


def test_it_goes_on_where_it_will_have_ended_itself() -> None:
    partner = heard(TUNE)
    for times in range(6):
        ask = replace(ASK, from_beat=16.0 + times * 8.0, seed=times)
        bars = written(partner, ask)
        check(bars, ask, 4.0, partner.key_for(ask.key))
        partner.hear([note for bar in bars for note in bar.notes])


@pytest.mark.parametrize(("asked", "sounding"), [("follow", "C major"), ("E major", "E major"), ("free", "")])
def test_without_a_note_heard_it_begins_by_itself_in_the_key_asked_for(asked: str, sounding: str) -> None:
    partner = Improviser(BUSY)
    ask = replace(ASK, from_beat=400.0, key=asked)
    assert partner.key_for(asked) == sounding
    bars = written(partner, ask)
    check(bars, ask, 4.0, sounding)
    assert bars[0].notes


def test_the_key_follows_the_music_and_not_a_few_strange_notes() -> None:
    chance = random.Random(1)
    e_major = sorted(pitch for pitch in range(52, 76) if pitch % 12 in scale_of("E major"))
    partner = heard([Note(beat / 2, 0.5, chance.choice(C_MAJOR), 90, "piano") for beat in range(128)])
    stayed = partner.key_for("follow")
    assert scale_of(stayed) == scale_of("C major")
    partner.hear([Note(64 + step / 2, 0.25, 66, 90, "piano") for step in range(6)])
    assert partner.key_for("follow") == stayed
    for bar in range(20):
        partner.hear(
            [Note(68 + bar * 4 + step / 2, 0.5, chance.choice(e_major), 90, "piano") for step in range(8)]
        )
    assert scale_of(partner.key_for("follow")) == scale_of("E major")
    check(written(partner, replace(ASK, from_beat=148.0)), replace(ASK, from_beat=148.0), 4.0, "E major")


def test_a_song_sets_the_key_and_comes_before_what_was_played() -> None:
    song = [Note(beat / 2, 0.5, 61 + beat % 3 * 2, 90, "lead") for beat in range(12)]
    plain, late, early = heard(TUNE), heard(TUNE), Improviser(MODEL)
    late.prime(song, 4.0, "Db major")
    early.prime(song, 4.0, "Db major")
    early.hear(TUNE)
    assert early.key_for("follow") == late.key_for("follow") == "Db major"
    assert written(early, ASK) == written(late, ASK)
    assert written(plain, replace(ASK, key="Db major")) != written(early, ASK)
    late.prime([], 4.0, "")
    assert written(late, ASK) == written(plain, ASK)


def test_of_a_song_in_another_metre_only_the_key_counts() -> None:
    song = [Note(beat / 2, 0.5, 61, 90, "lead") for beat in range(60)]
    partner, plain = heard(TUNE), heard(TUNE)
    partner.prime(song, 3.0, "G major")
    assert partner.notes_kept == plain.notes_kept
    assert partner.key_for("follow") == "G major"


def test_hands_that_miss_the_grid_by_a_hair_are_answered_on_it() -> None:
    chance = random.Random(2)
    loose = [
        Note(max(0.0, beat / 2 + chance.gauss(0, 0.018)), 0.4 + chance.gauss(0, 0.03), pitch, 90, "piano")
        for beat, pitch in enumerate(chance.choices(C_MAJOR, k=24))
    ]
    partner = heard(loose, BUSY)
    notes = [note for bar in written(partner, replace(ASK, bars=8)) for note in bar.notes]
    assert notes
    assert all(note.start_beats * 4 == round(note.start_beats * 4) for note in notes)


def test_triplets_are_answered_in_triplets_and_exact_notes_are_heard_as_they_are() -> None:
    triplets = [Note(third / 3, 1 / 3, C_MAJOR[third % 7], 90, "piano") for third in range(36)]
    notes = [n for bar in written(heard(triplets, BUSY), replace(ASK, bars=4)) for n in bar.notes]
    assert notes
    assert all(n.start_beats * 3 == pytest.approx(round(n.start_beats * 3)) for n in notes)
    ear = Ear(96)
    ear.take(TUNE)
    assert [(onset, length) for onset, _, _, length, _ in ear.notes] == [(12 * i, 12) for i in range(24)]


def test_long_silence_and_a_jump_of_the_axis_cost_nothing() -> None:
    ear = Ear(96)
    rows = [len(ear.take([Note(beat, 1.0, 60, 90, "piano")])) for beat in (2.0, 40_002.0, 7.0, -3.0, 1e8)]
    assert max(rows) <= 9  # a note and eight bars of rest
    assert ear.notes == sorted(ear.notes)
    partner = heard(TUNE)
    ask = replace(ASK, from_beat=4e6)
    check(written(partner, ask), ask, 4.0, partner.key_for(ask.key))


def test_twenty_thousand_notes_are_heard_in_little_memory_and_each_in_little_time() -> None:
    chance = random.Random(3)
    partner = Improviser(MODEL)
    took_s = []
    for beat in range(5_000):
        notes = [Note(beat + i / 4, 0.25, chance.choice(C_MAJOR), 90, "piano") for i in range(4)]
        began_s = time.perf_counter()
        partner.hear(notes)
        took_s.append(time.perf_counter() - began_s)
        assert partner.notes_kept <= 2 * MOST_NOTES
    assert np.median(took_s) < 0.01
    assert max(took_s) < 1.0
    check(written(partner, replace(ASK, from_beat=5_000.0)), replace(ASK, from_beat=5_000.0), 4.0, "C major")


def test_a_first_bar_without_notes_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = dict(tiny_arrays())
    arrays["heads.0.bias"] = np.where(np.arange(SIZES[0]) == REST, 1.5, 0.0).astype(np.float32)
    partner = heard(TUNE, Decoder(arrays, TINY))

    def empty_replies() -> int:
        asks = (replace(ASK, bars=1, seed=seed) for seed in range(40))
        return sum(not written(partner, ask)[0].notes for ask in asks)

    fewer = empty_replies()
    monkeypatch.setattr(improviser, "REDRAWS", 0)
    assert fewer * 2 < empty_replies()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"bars": 0}, "bars is 0"),
        ({"bars": 1000}, "bars is 1000"),
        ({"from_beat": 17.0}, "from_beat is 17.0"),
        ({"from_beat": float("nan")}, "from_beat is nan"),
        ({"parts": ()}, "parts is empty"),
        ({"parts": ("kazoo",)}, "kazoo"),
        ({"key": "H minor"}, "H minor"),
        ({"ranges": {"kazoo": (1, 2)}}, "kazoo"),
        ({"ranges": {"piano": (80, 60)}}, "80-60 of piano"),
        ({"ranges": {"piano": (61, 61)}, "key": "C major"}, "Nothing can be played"),
        ({"most_notes_per_beat": 0.0}, "most_notes_per_beat is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"top_p": 2.0}, "top_p is 2"),
        ({"min_p": -1.0}, "min_p is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"planned": (Note(0.0, 1.0, 60, 90, "kazoo"),)}, "kazoo"),
    ],
)
def test_an_ask_that_makes_no_sense_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        written(heard(TUNE), replace(ASK, **wrong))


@pytest.mark.parametrize(
    ("note", "named"),
    [
        (Note(0.0, 1.0, 60, 90, "vocals"), "vocals"),
        (Note(float("nan"), 1.0, 60, 90, "piano"), "start of a note is nan"),
        (Note(0.0, float("inf"), 60, 90, "piano"), "length of a note is inf"),
        (Note(0.0, 1.0, 128, 90, "piano"), "pitch of a note is 128"),
        (Note(0.0, 1.0, 60, 0, "piano"), "velocity of a note is 0"),
    ],
)
def test_a_note_that_is_none_is_named_and_nothing_of_its_batch_heard(note: Note, named: str) -> None:
    partner = heard(TUNE)
    with pytest.raises(InputError, match=named):
        partner.hear([Note(12.0, 1.0, 60, 90, "piano"), note])
    assert written(partner, ASK) == written(heard(TUNE), ASK)


@pytest.mark.parametrize("bar_beats", [0.0, 1 / 48, 4.01, 100.0, float("nan")])
def test_a_bar_off_the_grid_is_refused(bar_beats: float) -> None:
    with pytest.raises(InputError, match="A bar of"):
        Improviser(MODEL, bar_beats)


# the process


class Partner:
    """The other end of a generator's pipe."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def send(self, **message: Any) -> None:
        self.pipe.send_bytes(json.dumps(message).encode())

    def ask(self, ask_id: int, bars: int = 2, from_beat: float = 16.0, **settings: Any) -> None:
        told = {"parts": ["piano"], "key": "follow", "temperature": 1.5, "seed": 7, **settings}
        self.send(type="ask", id=ask_id, from_beat=from_beat, bars=bars, deadline_beat=15.9, settings=told)

    def hear(self, notes: tuple[Note, ...] = TUNE) -> None:
        values = [[n.start_beats, n.length_beats, n.pitch, n.velocity, n.part] for n in notes]
        self.send(type="context", notes=values)

    def next(self) -> dict[str, Any]:
        assert self.pipe.poll(60.0), "the generator says nothing"
        message: dict[str, Any] = json.loads(self.pipe.recv_bytes())
        return message

    def reply(self, ask_id: int) -> list[dict[str, Any]]:
        """All bars of one ask; what comes before is passed over."""
        bars: list[dict[str, Any]] = []
        while not bars or not bars[-1]["last"]:
            message = self.next()
            if message["type"] == "phrase" and message["id"] == ask_id:
                bars.append(message)
        return bars


@pytest.fixture
def partner() -> Iterator[Partner]:
    """A generator with a tiny model, in a thread."""
    ours, theirs = Pipe()

    def serve() -> None:
        try:
            Generator(theirs, BUSY).serve()
        except EOFError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield Partner(ours)
    ours.close()
    thread.join(60.0)
    assert not thread.is_alive()


def test_each_bar_comes_as_a_message_of_its_own(partner: Partner) -> None:
    partner.hear()
    partner.ask(3)
    first, second = partner.reply(3)
    assert list(first) == ["type", "id", "bar", "notes", "last", "seed", "key", "took_ms"]
    assert (first["bar"], second["bar"]) == (0, 1)
    assert (first["seed"], first["key"]) == (7, "C major")
    assert all(16.0 <= note[0] < 20.0 for note in first["notes"])
    assert first["took_ms"] <= second["took_ms"]


def test_the_context_counts_in_the_order_in_which_it_came(partner: Partner) -> None:
    partner.ask(1, from_beat=12.0)
    partner.hear()
    partner.ask(2, from_beat=12.0)
    partner.hear(PLANNED)
    partner.ask(3)
    before = written(Improviser(BUSY), replace(ASK, id=1, from_beat=12.0, top_p=0.95, min_p=0.02, seed=7))
    both = heard(TUNE, BUSY)
    both.hear(PLANNED)
    after = written(both, replace(ASK, id=3, top_p=0.95, min_p=0.02, seed=7))
    told = partner.reply(3)
    assert [len(bar["notes"]) for bar in told] == [len(bar.notes) for bar in after]
    assert [note[2] for bar in told for note in bar["notes"]] == [n.pitch for b in after for n in b.notes]
    assert before != after


def test_a_newer_ask_and_a_cancel_end_the_older_one_at_once(partner: Partner) -> None:
    partner.hear()
    partner.ask(1, bars=256)
    assert partner.next()["id"] == 1
    partner.ask(2, bars=256)
    while (message := partner.next())["id"] == 1:
        assert not message["last"]
    partner.send(type="cancel", id=2)
    partner.ask(3)
    bars = partner.reply(3)
    assert len(bars) == 2


def test_a_cancel_that_comes_with_its_ask_leaves_nothing_to_do(partner: Partner) -> None:
    partner.ask(1, bars=256)
    partner.send(type="cancel", id=1)
    partner.send(type="cancel", id=77)
    partner.ask(2, bars=1)
    while (message := partner.next())["id"] == 1:
        assert not message["last"]
    assert (message["id"], message["last"]) == (2, True)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (b"no json", '"None" is unknown'),
        (b"[1, 2]", '"None" is unknown'),
        (b'{"type": "dance"}', '"dance" is unknown'),
        (b'{"type": "context"}', "notes is None"),
        (b'{"type": "context", "notes": [[0, 1, 60]]}', "is no note"),
        (b'{"type": "context", "notes": [[0, 1, 60, 90, "kazoo"]]}', "kazoo"),
        (b'{"type": "metre", "bar_beats": "four"}', "bar_beats is 'four'"),
        (b'{"type": "metre", "bar_beats": 4.01}', "A bar of 4.01"),
        (b'{"type": "song", "folder": "/no/such"}', "manifest.json"),
        (b'{"type": "ask", "id": 4}', "must have bars"),
        (b'{"type": "ask", "id": 4, "from_beat": 0, "bars": "2", "settings": {"parts": ["piano"]}}', "bars"),
        (b'{"type": "ask", "id": 4, "from_beat": 0, "bars": 2, "settings": {"parts": [], "x": 1}}', "'x'"),
        (
            b'{"type": "ask", "id": 4, "from_beat": 0, "bars": 2, "settings": {"parts": ["bass"], "ranges": [1]}}',
            "ranges",
        ),
        (
            b'{"type": "ask", "id": 4, "from_beat": 1, "bars": 2, "settings": {"parts": ["bass"]}}',
            "from_beat",
        ),
    ],
)
def test_a_message_that_makes_no_sense_is_answered_and_the_music_goes_on(
    partner: Partner, message: bytes, named: str
) -> None:
    partner.pipe.send_bytes(message)
    answer = partner.next()
    assert answer["type"] == "error"
    assert named in answer["detail"]
    partner.ask(5)
    assert len(partner.reply(5)) == 2


def test_another_metre_begins_anew(partner: Partner) -> None:
    partner.hear()
    partner.send(type="metre", bar_beats=3.0)
    partner.ask(1, from_beat=15.0)
    bars = partner.reply(1)
    assert all(18.0 <= note[0] < 21.0 for note in bars[1]["notes"])


def test_a_song_of_the_project_tells_key_tempo_and_parts_and_outlives_a_change_of_metre(
    partner: Partner, tmp_path: Path
) -> None:
    partner.send(type="song", folder=str(made_song(tmp_path / "Song", beats_per_bar=3)))
    told = partner.next()
    assert told == {
        "type": "song",
        "key": "Eb major",
        "bpm": 96.0,
        "beats_per_bar": 3,
        "beat_unit": 4,
        "parts": ["lead", "piano"],
    }
    partner.send(type="metre", bar_beats=3.0)
    partner.ask(1, from_beat=0.0)
    bars = partner.reply(1)
    assert bars[0]["key"] == "Eb major"
    assert bars[0]["notes"]
    fresh = Improviser(BUSY, 3.0)
    fresh.fix_key("Eb major")
    plain = written(fresh, replace(ASK, from_beat=0.0, key="Eb major", top_p=0.95, min_p=0.02, seed=7))
    assert [note[2] for note in bars[0]["notes"]] != [note.pitch for note in plain[0].notes]


@pytest.mark.real
def test_the_process_gets_ready_plays_ignores_ctrl_c_and_ends_with_its_pipe(tmp_path: Path) -> None:
    process, pipe = start_generator(SHIPPED, tmp_path)
    partner = Partner(pipe)
    ready = partner.next()
    assert (ready["type"], ready["model"]) == ("ready", SHIPPED)
    if sys.platform != "win32":
        os.kill(process.pid, signal.SIGINT)
    partner.hear()
    partner.ask(1, bars=4)
    assert any(bar["notes"] for bar in partner.reply(1))
    pipe.close()
    assert process.wait(30.0) == 0


@pytest.mark.real
def test_quit_ends_the_process_and_a_missing_model_is_named(tmp_path: Path) -> None:
    process, pipe = start_generator(SHIPPED, tmp_path)
    Partner(pipe).send(type="quit")
    assert process.wait(30.0) == 0
    pipe.close()
    process, pipe = start_generator("none such", tmp_path)
    answer = Partner(pipe).next()
    assert answer["type"] == "error"
    assert "none such" in answer["detail"]
    assert process.wait(30.0) == 1
    pipe.close()


def test_an_answer_begins_within_the_beat_that_it_was_asked_to_where_the_model_would_rest() -> None:
    arrays = dict(tiny_arrays())
    arrays["heads.0.bias"] = np.where(np.arange(SIZES[0]) == REST, 3.0, 0.0).astype(np.float32)
    partner = heard(TUNE, Decoder(arrays, TINY))

    def in_time(opening_beats: float | None) -> int:
        asks = (replace(ASK, bars=1, seed=seed, opening_beats=opening_beats) for seed in range(20))
        firsts = (written(partner, ask)[0].notes for ask in asks)
        return sum(bool(notes) and notes[0].start_beats <= ASK.from_beat + 1.0 for notes in firsts)

    assert in_time(1.0) == 20
    assert in_time(None) < 20
