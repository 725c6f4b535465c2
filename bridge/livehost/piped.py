"""Starts the live companion's processes, each joined to this one by a pipe for JSON bytes.

The pipe is the leash: when this process closes its end, or dies in any way, the child reads the end of it and
goes. Ctrl-C in a terminal reaches this process alone. The child finds its end by `live.pipe.inherited_pipe`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

ONE_THREAD: Mapping[str, str] = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


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
