"""The readers of foreign bytes under random ones; `python -m tests.fuzzing` is the long run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import fuzzing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="atheris runs on Linux")


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_the_examples_are_read_so_that_the_bytes_grow_from_something_whole(name: str, tmp_path: Path) -> None:
    target = fuzzing.TARGETS[name]
    feed = target.prepare(tmp_path)
    for example in target.examples():
        feed(example)


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_whatever_comes_is_read_or_refused(name: str) -> None:
    row = fuzzing.run(600, [name], seed=7)[name]
    assert row["found"] == ""
    assert row["inputs"] == 600


def test_a_reader_that_breaks_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys\nfrom tests import fuzzing\n"
        "def prepare(folder):\n"
        "    def feed(data):\n"
        "        if data[:1] == b'x': raise KeyError('planted')\n"
        "    return feed\n"
        "fuzzing.TARGETS = {'x': fuzzing.Target(prepare, fuzzing._sidecars, 1)}\n"
        "fuzzing._fuzz('x', 20000, 3)\n"
    )
    done = fuzzing.child([sys.executable, str(broken)])
    assert done.returncode != 0
    assert "planted" in done.stdout + done.stderr
