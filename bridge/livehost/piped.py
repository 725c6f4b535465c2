"""Starts the live companion's processes, each joined to this one by a pipe for JSON bytes.

The pipe is the leash: when this process closes its end, or dies in any way, the child reads the end of it and
goes. Ctrl-C in a terminal reaches this process alone. The child finds its end by `live.pipe.inherited_pipe`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bridge.errors import LiveError
from bridge.live.pipe import receive_message, send_message

CLOSE_S = 5.0
ONE_THREAD: Mapping[str, str] = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


class Child:
    """A process of ours and the pipe to it."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: Connection) -> None:
        self.process, self.pipe = process, pipe

    def send(self, message: Mapping[str, Any]) -> None:
        """What can't be sent is found out by whoever reads the other way."""
        send_message(self.pipe, message)

    def first_message(self, timeout_s: float, kinds: Sequence[str], name: str) -> dict[str, Any]:
        """The first message of these kinds.

        Raises:
            LiveError: it said nothing in time, or ended.
        """
        deadline_s = time.monotonic() + timeout_s
        why = f"said nothing for {timeout_s:.0f} s"
        try:
            while self.pipe.poll(max(0.0, deadline_s - time.monotonic())):
                message = receive_message(self.pipe)
                if message["type"] in kinds:
                    return message
        except EOFError:
            why = f"ended (exit {self.exit_code()})"
        self.close(now=True)
        raise LiveError(f"The {name} {why}. Run `dawbridge doctor`.", "no_start")

    def exit_code(self) -> int:
        """Of a child that goes; one that does not go is killed."""
        try:
            return self.process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self, *, now: bool = False) -> None:
        """End it: by the end of its pipe, then by force."""
        self.pipe.close()
        if now:
            self.process.kill()
        self.exit_code()


def start_piped(
    module: str, args: Sequence[str], env: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Run `python -m MODULE PIPE ARGS...` with `env` over our own environment; the process and our end.

    Callers close the connection to end it, then wait for the process; it shares our standard error.
    """
    ours, theirs = Pipe()
    try:
        child = _start([sys.executable, "-m", module, str(theirs.fileno()), *args], theirs, env)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()  # else we would hold the pipe open ourselves, and never learn that the child died
    return child, ours


def _start(command: Sequence[str], theirs: Connection, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    whole = {**os.environ, **env}
    if sys.platform == "win32":
        os.set_handle_inheritable(theirs.fileno(), True)
        startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [theirs.fileno()]})
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=whole,
            startupinfo=startup,
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
        )
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env=whole, pass_fds=(theirs.fileno(),), process_group=0
    )


def start_generator(model_name: str, models_dir: Path) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start the generator; its first message is `ready` or, before it ends, `error`."""
    return start_piped("bridge.livehost.generator", [model_name, str(models_dir)], ONE_THREAD)
