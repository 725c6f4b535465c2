"""The measurements of `live_timing`, each a function without arguments that returns its figures.

Each wants a process of its own: they raise priorities, start JACK servers and end processes. Lateness is taken at the
sender, from a message's due moment to the moment after it was sent, since JACK's delay spreads over a period.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.config import LiveConfig
from bridge.live import wire
from bridge.live.__main__ import CONTROL_PRIORITY, SWITCH_S
from bridge.live.controls import Controls
from bridge.live.player import Player, Watch, raise_priority
from bridge.live.ports import MidiPorts
from bridge.live.schedule import Strike
from bridge.tempo import bpm_to_beat_ns
from bridge.types import BeatLine
from tests.jack import end, jack_server, wait_until
from tests.jack import start as start_child
from tests.live_jack import (
    FLOOD_CLIENT,
    QUICK,
    Companion,
    Ear,
    Hand,
    companion,
    connect_in,
    connect_out,
    ear,
    hand,
    live_child,
)
from tests.live_parent import kill_parents
from tests.live_trials import answered_on_line, hung_notes

DEMO_SONG = Path(__file__).parents[2] / "presets" / "demo" / "Demo Song.flac"
SENDER_BPM, SENDER_BARS, VOICES = 240.0, 16, 4  # 1,024 notes in 16 s
CLOCK_BPM, CLOCK_S = 120.0, 12.0
DELIVERED_NOTES, DELIVERED_PER_S = 10_000, 1_000
PHRASES, TEMPOS_BPM = 10, (100, 140)
KILLS, LIVE_KILLS, STARTS = 100, 3, 5
LINK_BPM, LINK_BAR_BEATS = 133.0, 4.0
BEFORE_MS = 3.0  # how well a bar line is known from outside

Figures = dict[str, Any]

MODULE = "tests.benchmarks.live_measures"
_SENT: Figures = {"bpm": SENDER_BPM, "notes": SENDER_BARS * 16 * VOICES, "voices": VOICES}


def sender_quiet() -> Figures:
    """Lateness at the sender with nothing beside it."""
    with jack_server():
        return {**_SENT, "runs": _sender_runs()}


def sender_loaded() -> Figures:
    """The same while a separation runs in a worker, and two processes that only count."""
    with jack_server(), _load() as blocks:
        runs = _sender_runs()
        return {**_SENT, "runs": runs, "separated_blocks": blocks()}


def receiver_spread() -> Figures:
    """Clock ticks at one receiver, first from the live process, then from the C program."""
    with jack_server() as server, ear() as heard:
        with live_child(tempo=CLOCK_BPM, clock="internal", send_clock=True, mute=True):
            connect_out(server, heard)
            ours = _ticks(heard)
        with _jack_midi_clock():
            server.connect(server.wait_for_port("jack_midi_clock:.*"), heard.port)
            theirs = _ticks(heard)
    ratio = ours["std_ms"] / theirs["std_ms"]
    return {"bpm": CLOCK_BPM, "ours": ours, "jack_midi_clock": theirs, "ratio": round(ratio, 2)}


def delivery() -> Figures:
    """Notes through a synchronous server: what left against what came."""
    sent: list[bytes] = []
    beat_ns = 1_000_000_000 // DELIVERED_PER_S
    with (
        jack_server() as server,
        ear() as heard,
        _player(lambda _due, _at, message: sent.append(message), real_time=True) as player,
    ):
        connect_out(server, heard)
        heard.received.clear()
        player.set_line(BeatLine(-500.0, time.monotonic_ns(), beat_ns))
        for number in range(DELIVERED_NOTES):
            player.play([Strike(number, number + 0.5, number % 16, number // 16 % 128, 1 + number % 127)])
        wait_until(lambda: len(sent) + 2 * player.dropped >= 2 * DELIVERED_NOTES, "the last note", 40.0)
        wait_until(lambda: len(heard.received) >= len(sent), "the last arrival", 5.0)
        came = heard.messages[: len(sent)]
        return {
            "sent": len(sent),
            "lost": len(sent) - len(came),
            "is_order_kept": came == sent,
            "dropped_as_late": player.dropped,
        }


def replies_real_time() -> Figures:
    """Phrases of random length and tempo to a whole companion, and where its replies began."""
    chance = random.Random(7)
    with _home() as outbox, jack_server() as server, ear() as heard, hand() as musician:
        live = LiveConfig(midi="jack", controls=Controls(clock="internal", bars=1))
        with companion(outbox, live) as running:
            connect_in(server, musician.port)
            connect_out(server, heard)
            answers = [
                _answer(running, heard, musician, chance.uniform(*TEMPOS_BPM), chance.randint(3, 14))
                for _ in range(PHRASES)
            ]
            state = running.state
    return {
        "phrases": PHRASES,
        "replies": state["replies"],
        "on_line": state["on_line"],
        "planned_for_the_next_line": sum(answer.is_planned_right for answer in answers),
        "first_note_in_its_bar": sum(answer.is_in_bar for answer in answers),
        "first_note_after_line_ms": [answer.first_ms for answer in answers],
        "late_bars": state["late_bars"],
        "missed_bars": state["missed_bars"],
    }


def parent_kills() -> Figures:
    """A scripted parent (`tests.live_parent`) is killed again and again while a reply sounds."""
    with jack_server() as server:
        kills = kill_parents(server, KILLS, random.Random(1))
    ended_ms = sorted(kill.ended_s * 1e3 for kill in kills)
    return {
        "kills": len(kills),
        "notes_sounding": sum(kill.sounding for kill in kills),
        "hung": sum(kill.hung for kill in kills),
        "hung_without_controllers": sum(kill.without_note_off for kill in kills),
        "processes_left": sum(not kill.is_gone for kill in kills),
        "silent_after_ms": {"p50": round(ended_ms[len(kills) // 2], 1), "max": round(ended_ms[-1], 1)},
    }


def live_killed() -> Figures:
    """The live process of a whole companion is killed; a server that is not synchronous, with JACK's own patience.

    A synchronous server sticks for 10 s when a client is killed, whoever that is.
    """
    with _home() as outbox, jack_server(synchronous=False, patience_ms=500), ear() as heard:
        live = LiveConfig(midi="jack", output="ear", controls=Controls(**QUICK))
        with companion(outbox, live) as running:
            rounds = [_live_killed(running, heard) for _ in range(LIVE_KILLS)]
    return {
        "kills": LIVE_KILLS,
        "worst_ready_s": max(ready_s for ready_s, _, _ in rounds),
        "worst_first_bytes_s": max(bytes_s for _, bytes_s, _ in rounds),
        "are_first_bytes_off": all(is_off for _, _, is_off in rounds),
    }


def link() -> Figures:
    """Bar phase by Ableton Link between two processes of its library, and between one and the live process."""
    one, other = (_line_of(peer) for peer in [_own("peer"), _own("peer")])
    moments = range(max(one.from_ns, other.from_ns), min(one.to_ns, other.to_ns), 10_000_000)
    two_ms = [_phase_ms(one, at_ns, other.beat(at_ns)) for at_ns in moments]
    with jack_server(), live_child(link="tempo", mute=True) as child:
        peer = _own("peer")
        child.wait(lambda: peer.poll() is not None, "the peer's end", 30.0)
        line = _line_of(peer)
        states = [(round(at_s * 1e9), told["beat"]) for at_s, told in child.told if told["type"] == "state"]
        ours_ms = [
            _phase_ms(line, at_ns, beat) for at_ns, beat in states if line.from_ns < at_ns < line.to_ns
        ]
    return {
        "bar_beats": LINK_BAR_BEATS,
        "two_peers_ms": round(max(map(abs, two_ms)), 3),
        "companion_ms": round(max(map(abs, ours_ms)), 3),  # with the way of its state through the pipe
        "companion_median_ms": round(statistics.median(ours_ms), 3),
        "states": len(ours_ms),
    }


def start() -> Figures:
    """From the process's start until it is ready, and its memory then; JACK's shared memory is each client's."""
    ready_s: list[float] = []
    with jack_server():
        for _ in range(STARTS):
            began_s = time.monotonic()
            with live_child(mute=True) as child:
                ready_s.append(child.told[-1][0] - began_s)
                child.new_state()
                memory = _memory_mb(child.process.pid)
    private = memory["RssAnon"] + memory["RssFile"]
    return {
        "starts": STARTS,
        "median_ready_s": round(statistics.median(ready_s), 3),
        "worst_ready_s": round(max(ready_s), 3),
        "private_mb": round(private, 1),
        "anonymous_mb": round(memory["RssAnon"], 1),
        "files_mb": round(memory["RssFile"], 1),
        "shared_with_jack_mb": round(memory["RssShmem"], 1),
    }


def input_flood() -> Figures:
    """10,000 note-ons a second for 3 s into the live process."""
    command = (sys.executable, "-m", "tests.live_jack", "10000", "3")
    with jack_server() as server, live_child(mute=True) as child:
        flooding = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert flooding.stdin is not None and flooding.stdout is not None
        connect_in(server, server.wait_for_port(f"{FLOOD_CLIENT}:out"))
        before = len(child.told)
        flooding.stdin.write("go\n")
        flooding.stdin.flush()
        child.wait(lambda: flooding.poll() is not None, "the flood's end", 20.0)
        sent = int(flooding.stdout.readline())
        state = child.new_state()
        moments_s = [at_s for at_s, told in child.told[before:] if told["type"] == "state"]
        silence_s = max(after - at for at, after in itertools.pairwise(moments_s))
        return {
            "sent": sent,
            "heard": state["heard"],
            "told": [told["detail"] for told in child.of("told")],
            "longest_silence_s": round(silence_s, 3),
            "exit": child.end(),
        }


@dataclass(frozen=True)
class PeerLine:
    """A straight line through what a Link peer read of its beat, and when it read."""

    beat_at_0: float
    beats_per_ns: float
    from_ns: int
    to_ns: int

    def beat(self, at_ns: int) -> float:
        """Where it was."""
        return self.beat_at_0 + self.beats_per_ns * at_ns


@dataclass(frozen=True)
class Answer:
    """Where a reply began."""

    is_planned_right: bool  # for the bar line that the phrase's end allows
    is_in_bar: bool  # its first note lies in the bar from there on
    first_ms: float | None  # after that bar line; None: no note came


def _sender_runs() -> Figures:
    """Without real-time priority, and with it where it is allowed."""
    runs = {"ordinary": _sender_run(real_time=False)}
    fifo = _sender_run(real_time=True)
    return runs | ({"fifo": fifo} if fifo["is_fifo"] else {})


def _sender_run(*, real_time: bool) -> Figures:
    late_ns: list[int] = []
    with _player(lambda due, at, _: late_ns.append(at - due), real_time=real_time) as player:
        if real_time:
            raise_priority(CONTROL_PRIORITY)  # as the live process's control thread
        beat_ns = bpm_to_beat_ns(SENDER_BPM)
        began_ns = time.monotonic_ns() + 500_000_000
        player.set_line(BeatLine(0.0, began_ns, beat_ns))
        player.send_ticks(0)
        for bar in range(SENDER_BARS):
            player.play(_bar_of_sixteenths(bar * 4.0))
            time.sleep(max(0.0, (began_ns + (bar + 0.97) * 4 * beat_ns - time.monotonic_ns()) / 1e9))
        wait_until(
            lambda: player.on_time + player.late + player.dropped == _SENT["notes"], "the last note", 5.0
        )
        time.sleep(beat_ns / 1e9)
        late = {"late_notes": player.late, "dropped_notes": player.dropped, "is_fifo": player.is_real_time}
    return {"messages": len(late_ns), **_spread_ms(late_ns), **late}


def _bar_of_sixteenths(line: float) -> list[Strike]:
    return [
        Strike(line + step / 4, line + step / 4 + 0.2, voice, 40 + 10 * voice + step % 8, 80)
        for step in range(16)
        for voice in range(VOICES)
    ]


@contextmanager
def _player(watch: Watch, *, real_time: bool) -> Iterator[Player]:
    """A player on JACK ports, set up as the live process does."""
    sys.setswitchinterval(SWITCH_S)
    ports = MidiPorts("jack", (), "", lambda *_: None)
    player = Player(ports.send, watch=watch, real_time=real_time)
    player.start()
    gc.collect()
    gc.freeze()
    try:
        yield player
    finally:
        player.close()
        ports.close()


@contextmanager
def _load() -> Iterator[Callable[[], int]]:
    """A separation and two counting processes, under way; gives how many blocks of 12 s were separated so far."""
    with contextlib.ExitStack() as stack:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory()), "load.log")
        for name in ("separate", "count", "count"):
            child = start_child((sys.executable, "-m", MODULE, name), log)
            stack.callback(end, child)
        wait_until(lambda: log.exists() and "block" in log.read_text(), "a separation", 40.0, 0.2)
        before = log.read_text().count("block")
        yield lambda: log.read_text().count("block") - before


@contextmanager
def _jack_midi_clock() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        process = start_child(("jack_midi_clock", "-b", f"{CLOCK_BPM:g}"), Path(folder, "log"))
        try:
            _transport("play")
            yield
            _transport("stop")
        finally:
            process.send_signal(
                signal.SIGINT
            )  # at any other it would leave without a word, and the server stick
            process.wait(5.0)


def _transport(command: str) -> None:
    subprocess.run(
        ["jack_transport"],
        input=f"{command}\nquit\n",
        text=True,
        capture_output=True,
        timeout=5.0,
        check=True,
    )


def _ticks(heard: Ear) -> Figures:
    """How far ticks lie off the line through them; the first ones are left out."""
    time.sleep(1.0)
    heard.received.clear()
    time.sleep(CLOCK_S)
    at_ms = [one.at_ns / 1e6 for one in list(heard.received) if one.message == bytes((wire.CLOCK,))]
    fit = statistics.linear_regression(range(len(at_ms)), at_ms)
    off = sorted(abs(at - fit.intercept - fit.slope * index) for index, at in enumerate(at_ms))
    std = math.sqrt(statistics.fmean(ms * ms for ms in off))
    shown = {"std_ms": std, "p99_ms": off[int(0.99 * len(off))], "max_ms": off[-1]}
    return {"ticks": len(at_ms), "bpm": round(60_000 / 24 / fit.slope, 3)} | {
        name: round(ms, 3) for name, ms in shown.items()
    }


def _answer(running: Companion, heard: Ear, musician: Hand, bpm: float, eighths: int) -> Answer:
    """Play so many eighths from a bar line on, and hear what comes from the next bar line on that allows a rest."""
    bpm = round(bpm, 1)
    beat_ms, since = 60_000 / bpm, len(running.events)
    running.ask("tempo", bpm)
    running.wait(lambda: len(_states(running, since, bpm)) >= 8, "states")
    zero_ms = _zero_ms(running, since, bpm)
    now_beat = (time.monotonic_ns() / 1e6 - zero_ms) / beat_ms
    first_beat = math.ceil(now_beat / 4 + 0.1) * 4.0
    for eighth in range(eighths):
        _sleep_until_ms(zero_ms + (first_beat + eighth / 2) * beat_ms)
        musician.send(wire.note_on(0, 60 + eighth % 12, 80))
        _sleep_until_ms(zero_ms + (first_beat + eighth / 2 + 0.4) * beat_ms)
        musician.send(wire.note_off(0, 60 + eighth % 12))
    ended_beat = first_beat + eighths / 2 - 0.1
    line_beat = math.ceil((ended_beat + Controls().rest_beats) / 4) * 4
    heard.received.clear()
    _sleep_until_ms(zero_ms + (line_beat + 4.2) * beat_ms)
    running.wait(lambda: not running.state["replying"], "the reply's end")
    planned = {state["planned_beat"] for _, state in _states(running, since, bpm)}
    line_ms = _zero_ms(running, since, bpm) + line_beat * beat_ms  # better known by now
    notes = [one.at_ns / 1e6 - line_ms for one in list(heard.received) if wire.is_note_on(one.message)]
    is_in_bar = bool(notes) and -BEFORE_MS <= notes[0] < 4 * beat_ms
    return Answer(line_beat in planned, is_in_bar, round(notes[0], 1) if notes else None)


def _zero_ms(running: Companion, since: int, bpm: float) -> float:
    """Where beat 0 lies, by the least delayed state."""
    states = _states(running, since, bpm)
    return min(at_s * 1e3 - float(state["beat"]) * 60_000 / bpm for at_s, state in states)


def _states(running: Companion, since: int, bpm: float) -> list[tuple[float, Mapping[str, Any]]]:
    """Those of a tempo, from an event on."""
    return [one for one in running.events[since:] if one[1]["event"] == "state" and one[1]["bpm"] == bpm]


def _sleep_until_ms(at_ms: float) -> None:
    time.sleep(max(0.0, at_ms / 1e3 - time.monotonic()))


def _live_killed(running: Companion, heard: Ear) -> tuple[float, float, bool]:
    """Seconds until another live process is ready and until its first bytes came, and whether these end all."""
    count = len(running.of("ready"))
    running.ask("answer")
    heard.received.clear()
    running.wait(lambda: heard.instrument().on, "a note that sounds")
    before = len(heard.received)
    killed_ns = time.monotonic_ns()
    os.kill(running.of("ready")[-1]["pid"], signal.SIGKILL)
    running.wait(lambda: len(running.of("ready")) > count, "another live process", 20.0)
    running.wait(lambda: len(heard.received) >= before + 64, "its first bytes", 20.0)
    ready_s = (
        next(at_s for at_s, event in reversed(running.events) if event["event"] == "ready") - killed_ns / 1e9
    )
    first = heard.received[before]
    is_off = heard.messages[before : before + 32] == wire.everything_off()[:32]
    return round(ready_s, 3), round((first.at_ns - killed_ns) / 1e9, 3), is_off


def _line_of(peer: subprocess.Popen[str]) -> PeerLine:
    out, _ = peer.communicate(timeout=30.0)
    at_ns, beats = zip(*json.loads(out), strict=True)
    fit = statistics.linear_regression([at - at_ns[0] for at in at_ns], beats)
    return PeerLine(fit.intercept - fit.slope * at_ns[0], fit.slope, at_ns[0], at_ns[-1])


def _phase_ms(line: PeerLine, at_ns: int, beat: float) -> float:
    """How far a beat stands ahead of the line within a bar."""
    half = LINK_BAR_BEATS / 2
    return ((beat - line.beat(at_ns) + half) % LINK_BAR_BEATS - half) / line.beats_per_ns / 1e6


def _memory_mb(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {
        name: int(value.split()[0]) / 1024
        for name, _, value in (line.partition(":") for line in lines)
        if name.startswith("Rss")
    }


def _spread_ms(times_ns: Sequence[int]) -> Figures:
    ordered = sorted(times_ns)
    shown = {
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[int(0.99 * len(ordered))],
        "max_ms": ordered[-1],
    }
    return {name: round(ns / 1e6, 3) for name, ns in shown.items()}


@contextmanager
def _home() -> Iterator[Path]:
    """A home of dawbridge for this process; gives its outbox."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DAWBRIDGE_HOME"] = folder
        yield Path(folder, "outbox")


def _own(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen((sys.executable, "-m", MODULE, name), stdout=subprocess.PIPE, text=True)


def separate() -> None:
    """Separate the demo song again and again, as low in rank as a worker of the daemon's."""
    from bridge import audio
    from bridge.stages.separate import separate_samples

    os.nice(5)
    samples, rate_hz = audio.read(DEMO_SONG)
    with tempfile.TemporaryDirectory() as models:
        while True:
            separate_samples(
                samples, rate_hz, "spleeter", Path(models), lambda *_: print("block", flush=True)
            )


def count() -> None:
    """Keep a core busy."""
    while True:
        pass


def peer() -> None:
    """Print what a Link peer reads of its beat while another is there: (nanoseconds, beat), ..."""
    import asyncio

    import aalink

    async def opened() -> Any:
        return aalink.Link(LINK_BPM)

    link = asyncio.new_event_loop().run_until_complete(opened())
    link.quantum, link.enabled = LINK_BAR_BEATS, True
    wait_until(lambda: link.num_peers > 0, "a peer", 10.0)
    time.sleep(1.5)
    seen = []
    for _ in range(300):
        before_ns, beat, after_ns = time.monotonic_ns(), link.beat, time.monotonic_ns()
        seen.append(((before_ns + after_ns) // 2, beat))
        time.sleep(0.01)
    print(json.dumps(seen))


if __name__ == "__main__":
    {"separate": separate, "count": count, "peer": peer}[sys.argv[1]]()


def replies_simulated() -> Mapping[str, Any]:
    """200 phrases on a clock of their own."""
    return {"phrases": 200, "on_line": answered_on_line(200)}


def hung_simulated() -> Mapping[str, Any]:
    """10,000 random events on a clock of their own, into an instrument that ignores "all notes off"."""
    notes, hung = hung_notes(50, 200)
    return {"events": 10_000, "notes": notes, "hung": hung}
