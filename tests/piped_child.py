"""A child to start in tests: sends back what it gets until the pipe ends, then leaves a file."""

from __future__ import annotations

import sys
from pathlib import Path

from bridge.live.pipe import inherited_pipe

if __name__ == "__main__":
    pipe = inherited_pipe(sys.argv[1])
    try:
        while True:
            pipe.send_bytes(pipe.recv_bytes())
    except (EOFError, OSError):
        Path(sys.argv[2]).write_text("the pipe ended", encoding="utf-8")
