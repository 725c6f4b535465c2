"""The pipe between the live companion's processes is a leash: no child outlives its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.livehost.piped import start_piped

PARENT = """
import sys
from bridge.livehost.piped import start_piped
child, pipe = start_piped("tests.piped_child", [sys.argv[1]], {})
pipe.send_bytes(b"hello")
print(pipe.recv_bytes().decode(), flush=True)
child.wait()
"""


def wait_for(path: Path, limit_s: float = 30.0) -> bool:
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s and not path.exists():
        time.sleep(0.02)
    return path.exists()


def test_bytes_go_both_ways_and_closing_the_pipe_ends_the_child(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    child, pipe = start_piped("tests.piped_child", [str(ended)], {})
    pipe.send_bytes(b'{"type": "hello"}')
    assert pipe.poll(30.0)
    assert pipe.recv_bytes() == b'{"type": "hello"}'
    pipe.close()
    assert child.wait(30.0) == 0
    assert ended.exists()


def test_a_killed_parent_ends_the_child_too(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    command = [sys.executable, "-c", PARENT, str(ended)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"hello\n"
        assert not ended.exists()
        parent.kill()
    assert wait_for(ended)


def test_a_child_that_dies_is_seen_at_the_pipe(tmp_path: Path) -> None:
    child, pipe = start_piped("tests.piped_child", [str(tmp_path / "ended")], {})
    child.kill()
    child.wait(30.0)
    assert pipe.poll(30.0)
    with pytest.raises((EOFError, OSError)):
        pipe.recv_bytes()
    pipe.close()


def test_the_environment_reaches_the_child_over_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAWBRIDGE_TEST", "ours")
    module = tmp_path / "told.py"
    module.write_text(
        "import os, sys\n"
        "from bridge.live.pipe import inherited_pipe\n"
        "inherited_pipe(sys.argv[1]).send_bytes(os.environ['DAWBRIDGE_TEST'].encode())\n",
        encoding="utf-8",
    )
    root = str(Path(__file__).parents[1])
    both = {"DAWBRIDGE_TEST": "told", "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    child, pipe = start_piped("told", [], both)
    assert pipe.recv_bytes() == b"told"
    pipe.close()
    child.wait(30.0)
