"""Makes the README's two pictures: runs the real demos on a recording terminal and saves what they showed as SVG.

The companion's wants a MIDI system; without one the picture says "inside the process".
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from bridge.demo import run_demo
from bridge.livehost.demo import run_live_demo
from bridge.livehost.view import LiveView
from bridge.terminal import StageBars, print_returned

PICTURES = Path(__file__).parents[2] / ".github"
WIDTH = 112


def main() -> None:
    """Run both and write the pictures."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, tempfile.TemporaryDirectory() as folder:
        demo_picture(Path(folder), nowhere)
        live_picture(Path(folder), nowhere)


def demo_picture(folder: Path, nowhere: IO[str]) -> None:
    """A song that comes back."""
    live = Console(file=nowhere, width=WIDTH, force_terminal=True)
    bars = StageBars(live)
    result = run_demo(folder / "returned", live, bars)
    picture = Console(record=True, width=WIDTH, force_terminal=True, file=nowhere)
    picture.print("[bold green]$[/] uv run dawbridge demo")
    picture.print(bars)
    print_returned(result.folder, result.manifest, picture)
    save(picture, "demo.svg")


def live_picture(folder: Path, nowhere: IO[str]) -> None:
    """The companion in the middle of a reply."""
    view = LiveView()

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] != "state" or event["replying"]:
            view.update(event)

    run_live_demo(folder / "out", tell)
    picture = Console(record=True, width=WIDTH, force_terminal=True, file=nowhere)
    picture.print("[bold green]$[/] uv run dawbridge live")
    picture.print(view)
    save(picture, "live.svg", replaced={str(folder / "out"): "~/Music/dawbridge/outbox"})


def save(picture: Console, name: str, replaced: Mapping[str, str] = MappingProxyType({})) -> None:
    # The picture must not fetch a font from somewhere.
    own_fonts_only = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = picture.export_svg(title="dawbridge", code_format=own_fonts_only)
    for text, other in replaced.items():
        svg = svg.replace(text, other)
    (PICTURES / name).write_text(svg, encoding="utf-8")
    print(PICTURES / name)


if __name__ == "__main__":
    main()
