"""Scripts go where each DAW looks for them, on three systems; nothing of the user's is overwritten or removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lupa import lua54
from typer.testing import CliRunner

from bridge import doctor, install
from bridge.atomic import replacing
from bridge.cli import app
from bridge.config import Config, WatchConfig, folders, shipped
from bridge.errors import InstallError, UsageError
from bridge.install import DAWS, Place, System, find_places, look, this_system, uninstall

RUN = CliRunner()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped scripts: Live's real ones, a few lines for the others; version 1."""
    root = tmp_path / "shipped"
    shutil.copytree(
        shipped("daw_scripts") / "live", root / "live", ignore=shutil.ignore_patterns("__pycache__")
    )
    for daw in ("reaper/dawbridge", "ardour"):
        (root / daw).mkdir(parents=True)
    (root / "reaper" / "dawbridge_load.lua").write_text("-- load")
    (root / "reaper" / "dawbridge" / "core.lua").write_text("-- core")
    (root / "reaper" / "CHECKLIST.md").write_text("for people")
    (root / "ardour" / "dawbridge_load.lua").write_text("-- load")
    for name in DAWS["ardour"].shared:
        (root / name).write_text("-- shared")
    (root / "VERSION").write_text("1\n")
    monkeypatch.setattr(install, "shipped", lambda name: root)
    return root


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two folders."""
    return Config(outbox=tmp_path / "out put", watch=(WatchConfig(inbox=tmp_path / "in"),))


def system(home: Path, platform: str) -> System:
    """A machine whose user has this home."""
    return System(
        platform=platform,
        home=home,
        documents=home / "Documents",
        roaming=home / "AppData" / "Roaming",
        local=home / "AppData" / "Local",
        config=home / ".config",
    )


def place(home: Path, name: str, platform: str = "linux") -> Place:
    """Where a DAW's scripts go, the DAW being there."""
    daw = DAWS[name]
    for base in daw.bases(system(home, platform)):
        base.mkdir(parents=True, exist_ok=True)
    [found] = find_places(system(home, platform), name, None, folders())
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    """All files below."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


pytestmark = pytest.mark.usefixtures("dawbridge_home", "sources")


@pytest.mark.parametrize(
    ("platform", "wanted"),
    [
        (
            "win32",
            {
                "live": "Documents/Ableton/User Library/Remote Scripts/dawbridge",
                "reaper": "AppData/Roaming/REAPER/Scripts/dawbridge",
                "ardour": "AppData/Local/Ardour8/scripts",
            },
        ),
        (
            "darwin",
            {
                "live": "Music/Ableton/User Library/Remote Scripts/dawbridge",
                "reaper": "Library/Application Support/REAPER/Scripts/dawbridge",
                "ardour": "Library/Preferences/Ardour8/scripts",
            },
        ),
        ("linux", {"reaper": ".config/REAPER/Scripts/dawbridge", "ardour": ".config/ardour8/scripts"}),
    ],
)
def test_a_dry_run_prints_the_right_places_on_three_systems_and_writes_nothing(
    platform: str, wanted: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setattr("bridge.install_verbs.this_system", lambda: system(home, platform))
    told = RUN.invoke(app, ["install-scripts", "--dry-run", "--json"])
    assert told.exit_code == 0, told.output
    assert {row["daw"]: Path(row["folder"]) for row in json.loads(told.stdout)} == {
        daw: home / where for daw, where in wanted.items()
    }
    shown = RUN.invoke(app, ["install-scripts", "--dry-run"])
    for daw, where in wanted.items():
        assert f"{DAWS[daw].title}: {home / where}" in shown.stdout
        assert f"would write  {DAWS[daw].paths_file}" in shown.stdout
    assert not list(home.iterdir())


def test_each_ardour_from_version_7_on_gets_the_scripts(tmp_path: Path) -> None:
    for name in ("ardour6", "ardour7", "ardour8", "ardour9", "ardour-old"):
        (tmp_path / ".config" / name).mkdir(parents=True)
    found = find_places(system(tmp_path, "linux"), "ardour", None, folders())
    assert [p.folder.parent.name for p in found] == ["ardour7", "ardour8", "ardour9"]
    assert all(p.is_there for p in found)


def test_live_gets_its_package_with_the_folders_and_settings_and_the_person_is_told_what_to_switch_on(
    tmp_path: Path, config: Config, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "user"
    found = place(home, "live", "darwin")
    monkeypatch.setattr("bridge.install_verbs.this_system", lambda: system(home, "darwin"))
    monkeypatch.setattr("bridge.install_verbs.load_config", lambda: config)
    told = RUN.invoke(app, ["install-scripts", "live"])
    assert told.exit_code == 0, told.output
    assert "Control Surface: dawbridge" in told.stdout and "written      script.py" in told.stdout
    lying = files_of(found.folder)
    for path in (sources / "live" / "dawbridge").glob("*.py"):
        assert lying[path.name] == path.read_bytes()
    assert json.loads(lying["config.json"]) == {
        "schema": 1,
        "load_cc": 119,
        "load_channel": 16,
        "autoload": "project",
        "inbox": str(tmp_path / "in"),
        "outbox": str(tmp_path / "out put"),
        "version": "1",
    }
    again = RUN.invoke(app, ["install-scripts", "live", "--json"])
    assert {file["action"] for file in json.loads(again.stdout)[0]["files"]} == {"same"}
    assert files_of(found.folder) == lying


def test_lua_scripts_get_their_folders_as_they_read_them(tmp_path: Path, config: Config) -> None:
    reaper, ardour = place(tmp_path, "reaper"), place(tmp_path, "ardour")
    install.install(reaper, config)
    assert json.loads((reaper.folder / "dawbridge_paths.json").read_text())["outbox"] == str(
        tmp_path / "out put"
    )
    assert (reaper.folder / "dawbridge" / "core.lua").is_file() and not (
        reaper.folder / "CHECKLIST.md"
    ).exists()
    quoted = Config(outbox=tmp_path / 'a "b" \\ c', watch=config.watch)
    install.install(ardour, quoted)
    told = (ardour.folder / "dawbridge_paths.lua").read_text()
    assert told.startswith("return {\n") and f'outbox = "{tmp_path}/a \\"b\\" \\\\ c",' in told


def test_a_file_that_is_not_ours_stops_all_of_it_and_stays(tmp_path: Path, config: Config) -> None:
    found = place(tmp_path, "reaper")
    (found.folder / "dawbridge").mkdir(parents=True)
    theirs = found.folder / "dawbridge" / "core.lua"
    theirs.write_text("-- mine")
    before = files_of(found.folder)
    with pytest.raises(InstallError, match=r"core\.lua stands there and isn't ours: nothing was written"):
        install.install(found, config)
    assert files_of(found.folder) == before
    assert uninstall(found) == () and files_of(found.folder) == before


def test_a_link_is_not_ours_even_where_it_leads_to_the_same(
    tmp_path: Path, config: Config, sources: Path
) -> None:
    found = place(tmp_path, "ardour")
    found.folder.mkdir()
    (found.folder / "dawbridge_load.lua").symlink_to(sources / "ardour" / "dawbridge_load.lua")
    with pytest.raises(InstallError, match="isn't ours"):
        install.install(found, config)


def test_a_file_that_the_user_changed_is_kept_and_named(
    tmp_path: Path, config: Config, sources: Path
) -> None:
    found = place(tmp_path, "reaper")
    install.install(found, config)
    (found.folder / "dawbridge_load.lua").write_text("-- load, my way")
    for name in ("dawbridge_load.lua", "dawbridge/core.lua"):
        (sources / "reaper" / name).write_text("-- newer")
    (sources / "VERSION").write_text("2")
    steps = {step.path.name: step for step in install.install(found, config)}
    assert (
        steps["dawbridge_load.lua"].action == "keep" and "you changed it" in steps["dawbridge_load.lua"].why
    )
    assert steps["core.lua"].action == "update"
    assert (found.folder / "dawbridge_load.lua").read_text() == "-- load, my way"
    assert (found.folder / "dawbridge" / "core.lua").read_text() == "-- newer"
    assert "dawbridge_load.lua changed by you" in look(found, config).detail
    kept = [step for step in uninstall(found) if step.action == "keep"]
    assert [step.path.name for step in kept] == ["dawbridge_load.lua"]
    assert files_of(found.folder) == {"dawbridge_load.lua": b"-- load, my way"}


def test_settings_of_the_user_live_through_updates_and_uninstalls(tmp_path: Path, config: Config) -> None:
    found = place(tmp_path, "live", "win32")
    install.install(found, config)
    path = found.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "load_cc": 20, "autoload": "off"}))
    moved = Config(outbox=tmp_path / "elsewhere", watch=config.watch)
    assert look(found, moved).state == "moved"
    for _ in range(2):
        install.install(found, moved)
        table = json.loads(path.read_text())
        assert (table["load_cc"], table["autoload"]) == (20, "off")
        assert table["outbox"] == str(tmp_path / "elsewhere")
        assert look(found, moved).state == "installed"
        path.write_text(json.dumps(table))  # as an editor may write it
        uninstall(found)
        assert list(files_of(found.folder)) == ["config.json"]


def test_settings_that_are_damaged_are_named_not_replaced(tmp_path: Path, config: Config) -> None:
    found = place(tmp_path, "live", "win32")
    install.install(found, config)
    (found.folder / "config.json").write_text('{"load_cc": 20,')
    with pytest.raises(InstallError, match=r"config\.json is damaged .* Mend or delete it"):
        install.install(found, config)
    assert (found.folder / "config.json").read_text() == '{"load_cc": 20,'


def test_uninstall_leaves_no_trace_and_nothing_of_others_is_gone(tmp_path: Path, config: Config) -> None:
    live, ardour = place(tmp_path, "live", "darwin"), place(tmp_path, "ardour")
    ardour.folder.mkdir()
    (ardour.folder / "theirs.lua").write_text("-- theirs")
    (live.folder.parent / "Other Script").mkdir(parents=True)
    for found in (live, ardour):
        install.install(found, config)
    compiled = live.folder / "__pycache__"
    compiled.mkdir()
    (compiled / "script.cpython-311.pyc").write_bytes(b"")  # Live's Python leaves it
    would = uninstall(live, dry_run=True)
    assert live.folder.is_dir() and {step.action for step in would} == {"remove"}
    for found in (live, ardour):
        uninstall(found)
    assert not live.folder.exists() and (live.folder.parent / "Other Script").is_dir()
    assert files_of(ardour.folder) == {"theirs.lua": b"-- theirs"}
    assert uninstall(live) == ()


def test_a_file_that_no_longer_ships_goes_with_the_update(
    tmp_path: Path, config: Config, sources: Path
) -> None:
    found = place(tmp_path, "reaper")
    install.install(found, config)
    (sources / "reaper" / "dawbridge_load.lua").unlink()
    steps = {step.path.name: step.action for step in install.install(found, config)}
    assert steps["dawbridge_load.lua"] == "remove" and not (found.folder / "dawbridge_load.lua").exists()
    assert look(found, config).state == "installed"


@pytest.mark.parametrize("stop_at", range(1, 5))
def test_an_update_that_is_cut_off_is_finished_by_the_next_one(
    stop_at: int, tmp_path: Path, config: Config, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = place(tmp_path, "reaper")
    install.install(found, config)
    for name in ("dawbridge_load.lua", "dawbridge/core.lua"):
        (sources / "reaper" / name).write_text("-- newer")
    (sources / "VERSION").write_text("2")
    calls = []

    def cut(path: Path) -> object:
        calls.append(path)
        if len(calls) > stop_at:
            raise KeyboardInterrupt
        return replacing(path)

    with monkeypatch.context() as patch:
        patch.setattr(install, "replacing", cut)
        with pytest.raises(KeyboardInterrupt):
            install.install(found, config)
    assert "keep" not in {step.action for step in install.install(found, config)}
    assert look(found, config).state == "installed"
    assert (found.folder / "dawbridge" / "core.lua").read_text() == "-- newer"


@pytest.mark.parametrize(
    ("daw", "named", "wanted"),
    [
        ("live", "User Library", "User Library/Remote Scripts/dawbridge"),
        ("live", "Big Disk/Remote Scripts", "Big Disk/Remote Scripts/dawbridge"),
        ("live", "Remote Scripts/dawbridge", "Remote Scripts/dawbridge"),
        ("reaper", "Portable", "Portable/Scripts/dawbridge"),
        ("reaper", "Scripts", "Scripts/dawbridge"),
        ("ardour", "ardour9", "ardour9/scripts"),
        ("ardour", "ardour9/scripts", "ardour9/scripts"),
    ],
)
def test_a_moved_library_is_named_once_and_remembered(
    daw: str, named: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "disk" / named
    base.mkdir(parents=True)
    if named == "Portable":
        (base / "reaper.ini").touch()
    monkeypatch.setattr("bridge.install_verbs.this_system", lambda: system(tmp_path / "nobody", "linux"))
    told = RUN.invoke(app, ["install-scripts", daw, "--path", str(base), "--json"])
    assert told.exit_code == 0, told.output
    folder = tmp_path / "disk" / wanted
    assert Path(json.loads(told.stdout)[0]["folder"]) == folder and (folder / install.RECORD).is_file()
    [again] = find_places(this_system(), daw, None, folders())
    assert again.folder == folder and again.is_there
    gone = RUN.invoke(app, ["install-scripts", daw, "--path", str(base), "--uninstall"])
    assert gone.exit_code == 0 and not (folder / install.RECORD).exists()
    assert folder not in [p.folder for p in find_places(this_system(), daw, None, folders())]


def test_wrong_use_and_absent_daws_are_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match='no scripts for "cubase", only for live, reaper, ardour'):
        find_places(this_system(), "cubase", None, folders())
    with pytest.raises(UsageError, match="goes with a DAW"):
        find_places(this_system(), None, tmp_path, folders())
    with pytest.raises(UsageError, match="is no folder"):
        find_places(this_system(), "live", tmp_path / "nowhere", folders())
    monkeypatch.setattr("bridge.install_verbs.this_system", lambda: system(tmp_path / "nobody", "linux"))
    for daw, line in (
        ("reaper", "reaper was not found: looked for"),
        ("live", "it does not run on this system"),
    ):
        told = RUN.invoke(app, ["install-scripts", daw])
        assert told.exit_code == 1
        assert line in " ".join(told.stderr.split()) and f"install-scripts {daw} --path" in " ".join(
            told.stderr.split()
        )


@pytest.mark.parametrize("what", ["write", "read", "folder"])
def test_a_folder_that_is_closed_to_us_is_named_and_keeps_nobody_else_waiting(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    def closing(function: Callable[..., Any]) -> Callable[..., Any]:
        def closed(path: Path, *args: Any, **more: Any) -> Any:
            if "REAPER" in path.parts:
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **more)

        return closed

    reaper, ardour = place(tmp_path, "reaper"), place(tmp_path, "ardour")
    if what == "read":
        install.install(reaper, config)
        monkeypatch.setattr(Path, "open", closing(Path.open))
    elif what == "write":
        monkeypatch.setattr(install, "replacing", closing(replacing))
    else:
        monkeypatch.setattr(Path, "mkdir", closing(Path.mkdir))
    monkeypatch.setattr("bridge.install_verbs.this_system", lambda: system(tmp_path, "linux"))
    told = RUN.invoke(app, ["install-scripts"])
    assert told.exit_code == 1
    assert "Permission denied" in told.stderr and "REAPER" in told.stderr
    assert look(ardour, config).state == "moved"  # it went on; the command reads its own configuration
    if what == "read":
        assert "Permission denied" in look(reaper, config).detail
        assert RUN.invoke(app, ["install-scripts", "reaper", "--uninstall"]).exit_code == 1


def test_homes_and_folders_may_have_any_name(tmp_path: Path) -> None:
    home = tmp_path / 'Zoë\'s "Größe" 音楽 & Co'
    told = Config(outbox=home / "aus gang", watch=(WatchConfig(inbox=home / "ein\\gang\n#1"),))
    for name, platform in (("reaper", "darwin"), ("ardour", "linux"), ("live", "win32")):
        found = place(home, name, platform)
        install.install(found, told)
        assert look(found, told).state == "installed"
        body = (found.folder / found.daw.paths_file).read_text(encoding="utf-8")
        table = lua54.LuaRuntime().execute(body) if name == "ardour" else json.loads(body)
        assert (table["inbox"], table["outbox"]) == (str(told.watch[0].inbox), str(told.outbox))
        uninstall(found)
        assert files_of(found.folder) == {}


def test_a_record_that_is_damaged_or_leads_elsewhere_is_refused(tmp_path: Path, config: Config) -> None:
    found = place(tmp_path, "reaper")
    victim = tmp_path / "victim.txt"
    victim.write_text("x")
    found.folder.mkdir(parents=True)
    for text in ("{", "[]", '{"version": "1", "files": {"../../../../victim.txt": ["x"]}}'):
        (found.folder / install.RECORD).write_text(text)
        with pytest.raises(InstallError, match="is damaged"):
            install.install(found, config)
        with pytest.raises(InstallError, match="is damaged"):
            uninstall(found)
        assert look(found, config).state == "changed"
    assert victim.exists()


def test_the_doctor_tells_how_the_scripts_stand(
    tmp_path: Path, config: Config, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_midi", list)  # starts a process
    monkeypatch.setattr(doctor, "this_system", lambda: system(tmp_path, "linux"))

    def row() -> doctor.Finding:
        [found] = [f for f in doctor.examine(config, folders()) if f.what.startswith("scripts ")]
        return found

    assert not [f for f in doctor.examine(config, folders()) if f.what.startswith("scripts ")]
    found = place(tmp_path, "reaper")
    assert (row().verdict, row().remedy) == ("limited", "dawbridge install-scripts reaper")
    assert "not installed" in row().detail
    install.install(found, config)
    assert row() == doctor.Finding("scripts REAPER", "ok", f"version 1 in {found.folder}")
    (sources / "VERSION").write_text("2")
    assert row().detail == "version 1; dawbridge has 2" and row().verdict == "limited"
    (sources / "VERSION").write_text("1")
    (found.folder / "dawbridge_load.lua").write_text("-- my way")
    assert "dawbridge_load.lua changed by you" in row().detail
    (found.folder / "dawbridge_load.lua").unlink()
    assert "dawbridge_load.lua missing" in row().detail


def test_the_scripts_that_ship_carry_a_version_and_nothing_compiled() -> None:
    root = Path(__file__).parent.parent / "daw_scripts"
    assert (root / "VERSION").read_text().strip().isdigit()
    assert (root / "live" / "dawbridge" / "__init__.py").is_file()
    assert not (root / "live" / "dawbridge" / "config.json").exists()  # the installer's, of one machine
