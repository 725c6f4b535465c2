"""Decides when to answer, and commits what was written for it bar by bar. Never plays off the grid.

Pure, in beats of the axis (see `axis`): it is told what the musician plays, what the generator wrote and what beat
it is, and says what to do. It asks ahead, as soon as the musician rests, for the bar line where the phrase will be
over; there the first bar is committed, if it has come, and each further one just before its own bar line. What
comes late is played from where it can still be in time, or not at all. In `call` mode a played note ends the reply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random

from bridge.live.axis import SEAM_BEATS
from bridge.live.controls import Controls
from bridge.live.phrases import PhraseListener
from bridge.types import Note

COMMIT_S = 0.03  # a bar is handed to the player so long before its bar line
QUIET_S = 0.06  # a rest so short is none
SHORT_S = 0.4  # before a bar line: ask at once
LEAST_DENSITY, DENSER = 0.5, 1.5  # notes per beat of a reply beside the phrase's
OPENING_BEATS = 1.0  # within so many beats of the bar line an answer has begun
FORCED_ASK_S = 0.4  # an answer that does not wait for a rest is asked for so long before its bar line


@dataclass(frozen=True)
class Ask:
    """Write `bars` bars from a bar line on; `planned` is what will sound until then and no one has heard yet."""

    id: int
    from_beat: float
    bars: int
    deadline_beat: float
    seed: int
    parts: tuple[str, ...]
    most_notes_per_beat: float | None
    opening_beats: float | None  # how soon the first note begins; None: when it comes
    planned: tuple[Note, ...]


@dataclass(frozen=True)
class Cancel:
    """What was asked is not wanted any more."""

    id: int


@dataclass(frozen=True)
class Play:
    """Hand these to the player."""

    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Withdraw:
    """No further note of ours begins; what sounds ends at `beat` at the latest."""

    beat: float


@dataclass(frozen=True)
class Heard:
    """What was played, by the musician or by us, in the order of onsets: the generator's context."""

    notes: tuple[Note, ...]
    is_ours: tuple[bool, ...]


@dataclass(frozen=True)
class Reply:
    """A reply, or as much of it as was played, is over."""

    id: int
    from_beat: float
    length_beats: float  # whole bars
    notes: tuple[Note, ...]
    seed: int
    key: str
    is_cut: bool  # the musician came in, or the transport stopped


Action = Ask | Cancel | Play | Withdraw | Heard | Reply


@dataclass
class _Plan:
    id: int
    from_beat: float
    bars: int
    seed: int
    is_forced: bool = False  # does not wait for a rest
    key: str = ""
    arrived: list[tuple[Note, ...]] = field(default_factory=list)
    committed: int = 0  # bars
    played: list[Note] = field(default_factory=list)

    def end_beat(self, bar_beats: float) -> float:
        return self.from_beat + self.bars * bar_beats


@dataclass
class Counts:
    """How it went, since the process began."""

    replies: int = 0
    on_line: int = 0  # replies whose first bar was there at its bar line
    late_bars: int = 0  # bars that came after their bar line: played from where they could
    missed_bars: int = 0  # bars that never came in time: rests


class Companion:
    """One musician's partner."""

    def __init__(self, controls: Controls, random: Random | None = None) -> None:
        self.controls = controls
        self.listener = PhraseListener()
        self.counts = Counts()
        self._random = random or Random()
        self._actions: list[Action] = []
        self._plan: _Plan | None = None  # asked for, not begun
        self._reply: _Plan | None = None  # begun
        self._answer_wanted = False
        self._own: list[Note] = []  # committed, not yet told as heard
        self._density: float | None = None  # of the last phrase, and a little more
        self._next_id = 1

    @property
    def is_replying(self) -> bool:
        """It has the word."""
        return self._reply is not None

    @property
    def planned_from(self) -> float | None:
        """The bar line that the next reply is written for."""
        return self._plan.from_beat if self._plan else None

    def take_actions(self) -> list[Action]:
        """What to do, in order."""
        actions, self._actions = self._actions, []
        return actions

    def hear(self, message: bytes, beat: float) -> None:
        """A channel message of the musician's."""
        if not self.listener.hear(message, beat):
            return
        if self._reply is not None and self._yields(self._reply, beat):
            self._cut_reply(beat)
        if self._plan is not None and self._reply is None and not self._plan.is_forced:
            self._drop_plan()

    def bar_arrived(self, plan_id: int, notes: tuple[Note, ...], key: str) -> None:
        """The next bar of what was asked for is written."""
        for plan in (self._reply, self._plan):
            if plan is not None and plan.id == plan_id and len(plan.arrived) < plan.bars:
                plan.arrived.append(notes)
                plan.key = key

    def tick(self, beat: float, beat_ns: float) -> None:
        """Look at the clock, many times a second, while the transport rolls."""
        beats_per_s = 1e9 / beat_ns
        self.listener.close_hanging(beat)
        self._tell(beat)
        if self.controls.mute:
            self.stop(beat)
            return
        if self._reply is not None:
            self._go_on(beat, beats_per_s)
        if self._reply is None:
            self._listen(beat, beats_per_s)

    def idle(self, beat: float) -> None:
        """The same while the transport stands: only listen."""
        self.listener.close_hanging(beat)
        self._tell(beat)

    def answer(self) -> None:
        """The musician says: your turn."""
        self._answer_wanted = True

    def stop(self, beat: float) -> None:
        """Fall silent until the next phrase."""
        self._answer_wanted = False
        if self._reply is not None:
            self._cut_reply(beat)
        if self._plan is not None:
            self._drop_plan()

    def halt(self, beat: float) -> None:
        """The transport stopped: what was under way is over."""
        self.stop(beat)
        self.listener.close_all(beat)
        self._tell(beat)
        self.listener.begin_phrase()

    def jump(self, beat: float, new_beat: float, early_beats: float) -> None:
        """The transport starts or jumps to `new_beat`, where nobody can follow; see `PhraseListener.jump`."""
        self.stop(beat)
        self.listener.jump(beat, new_beat, early_beats)
        self._tell(beat)

    def resume(self, beat: float) -> None:
        """The player was silenced, and time goes on: hand over again what has not begun."""
        if self._reply is not None:
            left = tuple(note for note in self._reply.played if note.start_beats >= beat - SEAM_BEATS)
            if left:
                self._actions.append(Play(left))

    def _listen(self, beat: float, beats_per_s: float) -> None:
        if (
            self._plan is not None and self._plan.from_beat <= beat
        ):  # this thread was held up over the bar line
            self._begin(beat, beats_per_s)
            return
        start, is_forced = self._next_start(beat)
        if start is None:
            if self._plan is not None:
                self._drop_plan()
            return
        left_s = (start - beat) / beats_per_s
        if self._plan is None or self._plan.from_beat != start:
            quiet_s = (beat - self.listener.last_end_beats) / beats_per_s
            soon = left_s <= FORCED_ASK_S if is_forced else quiet_s >= QUIET_S or left_s <= SHORT_S
            if not soon:
                return
            if self._plan is not None:
                self._drop_plan()
            self._plan = self._ask(start, beats_per_s, is_forced, ())
        if left_s <= COMMIT_S:
            self._begin(beat, beats_per_s)

    def _next_start(self, beat: float) -> tuple[float | None, bool]:
        """The bar line where the next reply begins if nothing more is played, and whether a rest matters not."""
        controls, listener = self.controls, self.listener
        step = controls.align_bars * controls.bar_beats
        line = math.ceil(round(beat / step, 9)) * step
        if self._answer_wanted:
            return line, True
        if not listener.phrase_notes:
            return None, False
        if controls.every_bars:
            step = controls.every_bars * controls.bar_beats
            return math.ceil(round(beat / step, 9)) * step, True
        if listener.keys_down:
            return None, False
        while not listener.is_resting(line, controls.rest_beats):
            line += step
        return line, False

    def _ask(self, start: float, beats_per_s: float, is_forced: bool, planned: tuple[Note, ...]) -> _Plan:
        controls = self.controls
        seed = controls.seed or self._random.randrange(1, 2**31)
        plan = _Plan(self._next_id, start, controls.bars, seed, is_forced)
        self._next_id += 1
        deadline = start - COMMIT_S * beats_per_s
        parts = controls.parts(self.listener.own_part)
        density = controls.density or self._followed_density()
        opening = OPENING_BEATS if self._reply is None else None  # an answer begins; what goes on may rest
        self._actions.append(Ask(plan.id, start, plan.bars, deadline, seed, parts, density, opening, planned))
        return plan

    def _followed_density(self) -> float | None:
        """Half as many notes again as the phrase that is answered; None before the first one."""
        if self.listener.phrase_notes:
            self._density = max(LEAST_DENSITY, self.listener.notes_per_beat * DENSER)
        return self._density

    def _begin(self, beat: float, beats_per_s: float) -> None:
        plan, self._plan = self._plan, None
        assert plan is not None
        self._answer_wanted = False
        if plan.is_forced:
            self.listener.close_all(plan.from_beat)
        self.listener.begin_phrase()
        self.counts.replies += 1
        self.counts.on_line += bool(plan.arrived)
        self._reply = plan
        self._commit_due(plan, beat, beats_per_s)

    def _go_on(self, beat: float, beats_per_s: float) -> None:
        reply = self._reply
        assert reply is not None
        self._commit_due(reply, beat, beats_per_s)
        end = reply.end_beat(self.controls.bar_beats)
        is_endless = self.controls.mode != "call"
        if is_endless and self._plan is None and reply.committed >= reply.bars:
            planned = tuple(note for note in self._own) if self.controls.mode == "continue" else ()
            self._plan = self._ask(end, beats_per_s, True, planned)
        if beat < end - (COMMIT_S * beats_per_s if is_endless else 0.0):
            return
        self._end_reply(reply, reply.bars, is_cut=False)
        if self._plan is not None and is_endless:
            self._begin(beat, beats_per_s)

    def _commit_due(self, plan: _Plan, beat: float, beats_per_s: float) -> None:
        bar = self.controls.bar_beats
        while plan.committed < plan.bars:
            line = plan.from_beat + plan.committed * bar
            if beat < line - COMMIT_S * beats_per_s:
                return
            if plan.committed < len(plan.arrived):
                self._commit(plan, line, beat)
            elif beat >= line + bar:
                self.counts.missed_bars += 1
            else:
                return
            plan.committed += 1

    def _commit(self, plan: _Plan, line: float, beat: float) -> None:
        notes = tuple(note for note in plan.arrived[plan.committed] if note.start_beats >= beat)
        self.counts.late_bars += beat > line
        plan.played += notes
        self._own += notes
        if notes:
            self._actions.append(Play(notes))

    def _yields(self, reply: _Plan, beat: float) -> bool:
        """Does a played note end the reply? Not the last notes of a musician who was not asked to rest."""
        if self.controls.mode != "call":
            return False
        return not reply.is_forced or beat - reply.from_beat >= self.controls.bar_beats / 2

    def _cut_reply(self, beat: float) -> None:
        reply = self._reply
        assert reply is not None
        bar = self.controls.bar_beats
        next_line = (math.floor(beat / bar) + 1) * bar
        self._actions.append(Withdraw(next_line))
        cut = [
            replace(note, length_beats=min(note.length_beats, next_line - note.start_beats))
            for note in reply.played
            if note.start_beats <= beat
        ]
        reply.played = cut
        self._own = [note for note in self._own if note.start_beats <= beat]
        bars = max(1, math.ceil((beat - reply.from_beat) / bar))
        is_cut = beat < reply.end_beat(bar) - SEAM_BEATS
        self._end_reply(reply, min(bars, reply.bars), is_cut=is_cut)
        if self._plan is not None:
            self._drop_plan()

    def _end_reply(self, reply: _Plan, bars: int, *, is_cut: bool) -> None:
        self._reply = None
        if not reply.played:
            return
        length = bars * self.controls.bar_beats
        notes = tuple(reply.played)
        self._actions.append(
            Reply(reply.id, reply.from_beat, length, notes, reply.seed, reply.key, is_cut=is_cut)
        )

    def _drop_plan(self) -> None:
        assert self._plan is not None
        self._actions.append(Cancel(self._plan.id))
        self._plan = None

    def _tell(self, beat: float) -> None:
        heard = [(note, False) for note in self.listener.take_settled()]
        if self._own:
            until = min(beat, self.listener.earliest_held_beats)
            heard += [(note, True) for note in self._own if note.start_beats <= until]
            self._own = [note for note in self._own if note.start_beats > until]
        if heard:
            heard.sort(key=lambda one: (one[0].start_beats, one[0].pitch))
            self._actions.append(Heard(tuple(note for note, _ in heard), tuple(ours for _, ours in heard)))
