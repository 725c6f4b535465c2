"""Lua for a running Ardour, run as one of its actions: in Ardour's own loop, where a musician's actions run too."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from tests.jack import wait_until

if TYPE_CHECKING:
    from tests.ardour import Ardour

ACTION = Path(__file__).parent / "ardour_files" / "action.lua"
ANSWER_LIMIT_S = 90.0


def ui_scripts() -> str:
    """Ardour's file of that name, with `action.lua` as its first action."""
    fields = {"n": "dawbridge test", "s": "-", "f": ACTION.read_text()}
    told = "".join(f'scripts[1]["{name}"] = {_quoted(text)} ' for name, text in fields.items())
    state = base64.b64encode(f"scripts = {{}} scripts[1] = {{}} {told}".encode()).decode()
    return f'<UIScripts><ActionScript lua="Lua 5.3.5">{state}</ActionScript><ActionHooks/></UIScripts>'


def run_lua(ardour: Ardour, lines: str) -> str:
    """What `say(text)` or `act("dawbridge_load")`, one of our actions, said last in these lines; an error is raised."""
    ready = ardour.session.parent / "ready"
    answer = ready.with_name("ready.answer")
    answer.unlink(missing_ok=True)
    ready.with_name("ready.lua").write_text(lines)
    ardour.access_action("LuaAction/script-1")

    def is_answered() -> bool:
        ardour.check_alive()
        return answer.exists()

    wait_until(is_answered, f"Ardour runs {lines}", ANSWER_LIMIT_S, 0.05)
    said = answer.read_text()
    if said.startswith("error: "):
        raise RuntimeError(f"{lines}: {said}")
    return said


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
