"""Makes the README's picture: runs the real demo on a recording terminal and saves what it showed as SVG."""

from __future__ import annotations

import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from bridge.demo import run_demo
from bridge.terminal import print_returned

PICTURE = Path(__file__).parents[2] / ".github" / "demo.svg"
WIDTH = 112


def main() -> None:
    """Run the demo and write the picture."""
    console = Console(record=True, width=WIDTH, force_terminal=True)
    console.print("[bold green]$[/] dawbridge demo")
    result = run_demo(None, console)
    print_returned(result.folder, result.manifest, console)
    # The picture must not fetch a font from somewhere.
    own_fonts_only = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    PICTURE.write_text(console.export_svg(title="dawbridge", code_format=own_fonts_only), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
