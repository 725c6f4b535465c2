"""Makes the README's picture: runs the real demo on a recording terminal and saves what it showed as SVG."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from bridge.demo import run_demo
from bridge.terminal import StageBars, print_returned

PICTURE = Path(__file__).parents[2] / ".github" / "demo.svg"
WIDTH = 112


def main() -> None:
    """Run the demo and write the picture."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        live = Console(file=nowhere, width=WIDTH, force_terminal=True)
        bars = StageBars(live)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "returned"
            result = run_demo(out, live, bars)
            picture = Console(record=True, width=WIDTH, force_terminal=True, file=nowhere)
            picture.print("[bold green]$[/] uv run dawbridge demo")
            picture.print(bars)
            print_returned(result.folder, result.manifest, picture)
    # The picture must not fetch a font from somewhere.
    own_fonts_only = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    PICTURE.write_text(picture.export_svg(title="dawbridge", code_format=own_fonts_only), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
