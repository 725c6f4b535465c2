"""A real JACK server on its dummy driver, one for each `with`, so that no test meets another's ports.

Every step has a time limit, and the server dies with the process that started it. Debian packages: `jackd2` holds
the server and its tools `jack_lsp`, `jack_connect`, `jack_disconnect` and `jack_wait`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

TOOLS = ("jackd", "jack_wait", "jack_lsp", "jack_connect", "jack_disconnect", "setpriv", "chrt")
HAVE_JACK = all(shutil.which(tool) for tool in TOOLS)

START_LIMIT_S = 10.0
STEP_LIMIT_S = 5.0
RATE_HZ = 48000
PATIENCE_MS = 10_000
SHARED_MEMORY = Path("/dev/shm")
SERVERS = 8  # JACK's own limit
WAIT_FOR_OTHERS_S = 600.0
LOOK_S = 0.02
ONE_AT_A_TIME = FileLock(Path(tempfile.gettempdir(), "dawbridge-jack.lock"))
"""Clients of one name on two servers of one user overwrite each other's sockets, JACK's own tools too."""


@dataclass
class JackServer:
    """A running server; clients find it by JACK_DEFAULT_SERVER, which holds `name`."""

    name: str
    period_frames: int
    process: subprocess.Popen[bytes]
    log: Path
    segments: dict[Path, int]  # its shared memory -> inode

    def ports(self) -> list[str]:
        """All ports, as `client:port`."""
        return _tool("jack_lsp").splitlines()

    def connections(self, port: str) -> list[str]:
        """The ports that `port` is connected to."""
        lines = _tool("jack_lsp", "-c", port).splitlines()
        at = lines.index(port)
        return [line.strip() for line in itertools.takewhile(lambda line: line[:1] == " ", lines[at + 1 :])]

    def connect(self, source: str, destination: str) -> None:
        """Connect an output to an input; both must be there, see `wait_for_port`."""
        _tool("jack_connect", source, destination)
        # The tool ends before the server has run the cycle that makes the connection.
        wait_until(
            lambda: destination in self.connections(source), f"{source} -> {destination}", STEP_LIMIT_S
        )

    def disconnect(self, source: str, destination: str) -> None:
        """Undo `connect`."""
        _tool("jack_disconnect", source, destination)

    def wait_for_port(self, pattern: str, limit_s: float = STEP_LIMIT_S) -> str:
        """The first port whose full name matches the regular expression, once it is there."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [port for port in self.ports() if re.fullmatch(pattern, port)]
            return bool(found)

        wait_until(look, f"a JACK port like {pattern}", limit_s)
        return found[0]

    def kill(self) -> None:
        """End the server at once, as a crash would; its clients are told nothing."""
        self._note_segments()
        self.process.kill()
        self.process.wait(STEP_LIMIT_S)
        self._remove_segments()

    def close(self) -> None:
        """End the server and remove what it leaves in shared memory."""
        self._note_segments()
        # A synchronous server may wait for ever for a client that died: it gets little time to end well.
        end(self.process, limit_s=0.5)
        self._remove_segments()
        _remove_leftovers(self.name)

    def _remove_segments(self) -> None:
        for segment, inode in self.segments.items():
            with contextlib.suppress(FileNotFoundError):
                if segment.stat().st_ino == inode:  # else another server has that number by now
                    segment.unlink()

    def _note_segments(self) -> None:
        # Segments are numbered in one row for all servers of a user: only the map of the process tells whose they are.
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{self.process.pid}/maps").read_text()
            for path in map(Path, re.findall(rf"{SHARED_MEMORY}/jack-\d+-\d+", maps)):
                self.segments[path] = path.stat().st_ino


@contextlib.contextmanager
def jack_server(
    period: int = 256, synchronous: bool = True, name: str | None = None, patience_ms: int = PATIENCE_MS
) -> Iterator[JackServer]:
    """A fresh server of `period` frames at 48 kHz; it runs in real time where that is allowed.

    `synchronous` waits for every client in each cycle: nothing is lost under load, but a killed client sticks for
    10 s at least. `patience_ms` is how long a client may not answer; JACK's own default is 500.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(time.sleep, 3 * LOOK_S)  # whoever waits gets a turn
        stack.enter_context(ONE_AT_A_TIME.acquire(WAIT_FOR_OTHERS_S, LOOK_S))
        name = name or stack.enter_context(_free_name())
        told = {"JACK_DEFAULT_SERVER": name, "JACK_NO_AUDIO_RESERVATION": "1", "JACK_NO_START_SERVER": "1"}
        stack.enter_context(_environment(told))
        _remove_leftovers(name)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=name))
        log = Path(folder) / "jackd.log"
        priority = ("-R",) if _real_time_allowed() else ("-r",)
        mode = ("-S",) if synchronous else ()
        driver = ("-d", "dummy", "-r", str(RATE_HZ), "-p", str(period), "-C", "2", "-P", "2")
        command = ("jackd", *priority, *mode, "-t", str(patience_ms), "-n", name, *driver)
        server = JackServer(name, period, start(command, log), log, {})
        stack.callback(server.close)
        limit = time.monotonic() + START_LIMIT_S
        while not _is_up(server):
            # A killed run's server keeps its name until the system has buried it.
            if time.monotonic() > limit:
                raise TimeoutError(f"a JACK server named {name} still runs: end it")
            time.sleep(0.5)
            server.process = start(command, log)
        yield server


def start(
    command: Sequence[str], log: Path, pass_fds: Sequence[int] = (), env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A child that writes to `log` and is killed when the calling thread ends, however that ends."""
    with log.open("ab") as out:
        return subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", *command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            env=env,
        )


def end(process: subprocess.Popen[bytes], limit_s: float = 2.0) -> None:
    """Ask a child to end, and kill it after `limit_s`."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STEP_LIMIT_S)


def wait_until(done: Callable[[], bool], what: str, limit_s: float, step_s: float = 0.02) -> None:
    """Ask again and again until `done`, or TimeoutError that names `what`."""
    limit = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {limit_s} s")
        time.sleep(step_s)


@contextlib.contextmanager
def _free_name() -> Iterator[str]:
    """A name that no other process uses now.

    Names are used again because JACK keeps a killed server in its list of 8 until one of that name starts.
    """
    for number in range(SERVERS):
        name = f"dawbridge{number}"
        lock = FileLock(Path(tempfile.gettempdir(), f"{name}.lock"))
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
        if lock.is_locked:
            try:
                yield name
            finally:
                lock.release()
            return
    raise RuntimeError(f"{SERVERS} JACK servers of these tests run already: end some")


def _remove_leftovers(name: str) -> None:
    """Remove the sockets and semaphores of a dead server."""
    for pattern in (f"jack_sem.*_{name}_*", f"jack_{name}_*"):
        for left in SHARED_MEMORY.glob(pattern):
            left.unlink(missing_ok=True)


def _is_up(server: JackServer) -> bool:
    """Wait for the server; False if it ended because another of that name is there."""

    def listens_or_ended() -> bool:
        return server.process.poll() is not None or any(SHARED_MEMORY.glob(f"jack_{server.name}_*_0"))

    # jack_wait looks once a second, so let it look when there is something to see.
    wait_until(listens_or_ended, f"the socket of JACK server {server.name}", START_LIMIT_S)
    if server.process.poll() is None:
        _tool("jack_wait", "-w", "-t", str(int(START_LIMIT_S)), limit_s=START_LIMIT_S + 1)
        return True
    said = server.log.read_text(errors="replace")[-2000:]
    if "server already active" in said:
        return False
    raise RuntimeError(f"jackd ended by itself: {said}")


def _tool(*command: str, limit_s: float = STEP_LIMIT_S) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
    return done.stdout


def _real_time_allowed() -> bool:
    asked = subprocess.run(
        ("chrt", "-f", "10", "true"), capture_output=True, timeout=STEP_LIMIT_S, check=False
    )
    return asked.returncode == 0


@contextlib.contextmanager
def _environment(told: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
