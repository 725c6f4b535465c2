"""Puts the DAW scripts where each DAW looks for them, and takes them away again.

A file that isn't ours, or that the user has changed, is never overwritten and never removed: beside the scripts
lies a record of what was written, with digests. Each file appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import platformdirs

from bridge.atomic import replacing
from bridge.config import Config, Folders, shipped
from bridge.errors import InstallError, UsageError

DawName = Literal["live", "reaper", "ardour"]
Action = Literal["new", "update", "same", "keep", "remove"]
State = Literal["installed", "older", "changed", "moved", "missing"]

SCHEMA = 1
RECORD = "dawbridge_installed.json"
MAX_RECORD_BYTES = 1 << 20
OLDEST_ARDOUR = 7
BASE_NAMES = ("User Library", "REAPER")

LIVE_SETTINGS = {"load_cc": 119, "load_channel": 16, "autoload": "project"}
"""What the user may change in Live's `config.json`; kept when the scripts are installed again."""


@dataclass(frozen=True)
class System:
    """Where programs keep what is the user's."""

    platform: str  # as sys.platform: linux, darwin, win32
    home: Path
    documents: Path
    roaming: Path  # %APPDATA%
    local: Path  # %LOCALAPPDATA%
    config: Path  # $XDG_CONFIG_HOME


@dataclass(frozen=True)
class Daw:
    """One DAW that we have scripts for."""

    name: DawName
    title: str
    bases: Callable[[System], tuple[Path, ...]]  # the DAW's own folders; there where it was started once
    inside: tuple[str, ...]  # from there to the folder that it reads scripts from
    own: str  # our folder in that one, "" where scripts must lie in it directly
    signs: tuple[str, ...]  # what lies in the DAW's own folder
    source: tuple[str, ...]  # in daw_scripts
    suffix: str
    paths_file: str
    switch_on: str
    shared: tuple[str, ...] = ()  # modules of other DAWs' scripts, in daw_scripts; they go into dawbridge/


@dataclass(frozen=True)
class Place:
    """A folder for one DAW's scripts."""

    daw: Daw
    folder: Path
    is_there: bool  # the DAW has its folders


@dataclass(frozen=True)
class Step:
    """What is done with one file."""

    action: Action
    path: Path
    why: str = ""


@dataclass(frozen=True)
class Installed:
    """What lies in a place."""

    place: Place
    state: State
    detail: str


@dataclass(frozen=True)
class Record:
    """What we wrote: version, and for each file the digests that it may have."""

    version: str
    files: Mapping[str, tuple[str, ...]]


def this_system() -> System:
    """This machine, this user."""
    home = Path.home()
    return System(
        platform="linux" if sys.platform.startswith("linux") else sys.platform,
        home=home,
        documents=Path(platformdirs.user_documents_path()),  # on Windows it may lie in OneDrive
        roaming=Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming"),
        local=Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"),
        config=Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config"),
    )


def shipped_version() -> str:
    """The version of the scripts that ship with this dawbridge."""
    return (shipped("daw_scripts") / "VERSION").read_text(encoding="utf-8").strip()


def find_places(system: System, name: str | None, path: Path | None, folders: Folders) -> tuple[Place, ...]:
    """Where scripts belong: at `path`, else where they went before by `--path`, else where each DAW looks.

    Raises:
        UsageError: no such DAW, or `path` without a DAW, or no folder.
    """
    if name is not None and name not in DAWS:
        raise UsageError(f'There are no scripts for "{name}", only for {", ".join(DAWS)}.')
    if path is not None:
        if name is None:
            raise UsageError(f"--path {path} goes with a DAW: {', '.join(DAWS)}.")
        if not path.is_dir():
            raise UsageError(f"--path {path} is no folder. Name the one that the DAW shows.")
        return (Place(DAWS[name], _script_folder(DAWS[name], path.absolute()), True),)
    moved = _moved(folders)
    places = []
    for daw in DAWS.values() if name is None else (DAWS[name],):
        found = tuple(Path(folder) for folder in moved.get(daw.name, ()) if Path(folder).is_dir())
        if found:
            places += [Place(daw, folder, True) for folder in found]
        else:
            places += [
                Place(daw, base.joinpath(*daw.inside, *filter(None, [daw.own])), base.is_dir())
                for base in daw.bases(system)
            ]
    return tuple(places)


def install(place: Place, config: Config, *, dry_run: bool = False) -> tuple[Step, ...]:
    """Write the scripts and their paths; what was done, file by file.

    Raises:
        InstallError: a file of that name stands there that isn't ours, and nothing was written; or the folder can't
            be read or written.
    """
    with _access_told(place.folder):
        return _install(place, config, dry_run)


def uninstall(place: Place, *, dry_run: bool = False) -> tuple[Step, ...]:
    """Remove what we wrote and nobody changed; what was done, file by file.

    Raises:
        InstallError: the folder can't be read or written.
    """
    with _access_told(place.folder):
        return _uninstall(place, dry_run)


def remember(folders: Folders, place: Place, *, forget: bool = False) -> None:
    """Keep in mind that a DAW's scripts lie where `--path` said."""
    moved = {name: list(paths) for name, paths in _moved(folders).items()}
    known = moved.setdefault(place.daw.name, [])
    known[:] = [path for path in known if path != str(place.folder)]
    if not forget:
        known.append(str(place.folder))
    folders.state.mkdir(parents=True, exist_ok=True)
    with replacing(_moved_file(folders)) as file:
        file.write(json.dumps(moved, indent=1).encode())


def look(place: Place, config: Config) -> Installed:
    """How the scripts in a place stand."""
    try:
        with _access_told(place.folder):
            return _look(place, config)
    except InstallError as exc:
        return Installed(place, "changed", exc.message)


def _install(place: Place, config: Config, dry_run: bool) -> tuple[Step, ...]:
    record = _read_record(place.folder)
    wanted = _files(place, config)
    steps = [_step(place.folder, name, body, record) for name, body in wanted.items()]
    steps += [
        _removal(place.folder, name, digests, "no longer needed")
        for name, digests in record.files.items()
        if name not in wanted and (place.folder / name).is_file()
    ]
    if not dry_run:
        _apply(place.folder, steps, wanted, record)
    return tuple(steps)


def _uninstall(place: Place, dry_run: bool) -> tuple[Step, ...]:
    record = _read_record(place.folder)
    steps = [
        _removal(place.folder, name, digests, "")
        for name, digests in record.files.items()
        if (place.folder / name).is_file()
    ]
    if not dry_run:
        for step in steps:
            if step.action == "remove":
                _remove(step.path)
        (place.folder / RECORD).unlink(missing_ok=True)
        if place.daw.own:
            _remove_empty(place.folder)
        elif record.files:
            _remove_empty(place.folder / "dawbridge")
    return tuple(steps)


@contextmanager
def _access_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise InstallError(
            f"{folder}: {exc.filename or 'a file'} can't be read or written ({exc.strerror}). Mend that, then "
            "run: dawbridge install-scripts"
        ) from exc


def _look(place: Place, config: Config) -> Installed:
    record = _read_record(place.folder)
    if not record.files:
        return Installed(place, "missing", "not installed")
    if record.version != (newest := shipped_version()):
        return Installed(place, "older", f"version {record.version or 'unknown'}; dawbridge has {newest}")
    absent = [name for name in record.files if not (place.folder / name).is_file()]
    if absent:
        return Installed(place, "changed", f"{', '.join(absent)} missing in {place.folder}")
    generated = place.daw.paths_file
    told = (place.folder / generated).read_text(encoding="utf-8", errors="replace")
    if not all(_quoted(place.daw, path) in told for path in _two_folders(config)):
        return Installed(
            place, "moved", f"{place.folder / generated} names other folders than the configuration"
        )
    changed = [
        name
        for name, digests in record.files.items()
        if name != generated and _digest((place.folder / name).read_bytes()) not in digests
    ]
    if changed:
        return Installed(place, "changed", f"{', '.join(changed)} changed by you in {place.folder}")
    return Installed(place, "installed", f"version {record.version} in {place.folder}")


def _live_bases(system: System) -> tuple[Path, ...]:
    library = {"darwin": system.home / "Music", "win32": system.documents}.get(system.platform)
    return () if library is None else (library / "Ableton" / "User Library",)  # Live is not made for Linux


def _reaper_bases(system: System) -> tuple[Path, ...]:
    return (
        {
            "darwin": system.home / "Library" / "Application Support",
            "win32": system.roaming,
        }.get(system.platform, system.home / ".config")
        / "REAPER",
    )


def _ardour_bases(system: System) -> tuple[Path, ...]:
    """Each version has a folder of its own; where none is yet, the newest known one's."""
    parent, name = {
        "darwin": (system.home / "Library" / "Preferences", "Ardour"),
        "win32": (system.local, "Ardour"),
    }.get(system.platform, (system.config, "ardour"))
    versions = [path.name.removeprefix(name) for path in parent.glob(f"{name}*") if path.is_dir()]
    numbers = sorted(int(v) for v in versions if v.isdecimal() and int(v) >= OLDEST_ARDOUR)
    return tuple(parent / f"{name}{number}" for number in numbers or [8])


DAWS: dict[str, Daw] = {
    "live": Daw(
        "live",
        "Ableton Live",
        _live_bases,
        ("Remote Scripts",),
        "dawbridge",
        (),
        ("live", "dawbridge"),
        ".py",
        "config.json",
        "Start Live again. Settings > Link, Tempo & MIDI > Control Surface: dawbridge. Songs of a project named like "
        "the set then come by themselves. To load the newest one by a controller: Input: that controller, which "
        "sends CC 119 on channel 16; another one, and `autoload`, in config.json.",
    ),
    "reaper": Daw(
        "reaper",
        "REAPER",
        _reaper_bases,
        ("Scripts",),
        "dawbridge",
        ("reaper.ini",),
        ("reaper",),
        ".lua",
        "dawbridge_paths.json",
        "Actions > Show action list > New action > Load ReaScript: the dawbridge_*.lua there. Give them keys; run "
        "dawbridge_autoload.lua once to load what comes back by itself.",
    ),
    "ardour": Daw(
        "ardour",
        "Ardour",
        _ardour_bases,
        ("scripts",),
        "",
        (),
        ("ardour",),
        ".lua",
        "dawbridge_paths.lua",
        "Start Ardour again. Edit > Lua Scripts > Script Manager: choose the dawbridge actions.",
        tuple(f"reaper/dawbridge/{name}.lua" for name in ("json", "sha256", "wav", "manifest")),
    ),
}


def _script_folder(daw: Daw, path: Path) -> Path:
    """Ours, in the folder that a person named: the DAW's own one, the scripts' one, or ours itself."""
    last = daw.inside[-1]
    if daw.own and path.name == daw.own and path.parent.name == last:
        return path
    is_base = (path / last).is_dir() or any((path / sign).exists() for sign in daw.signs) or not daw.own
    if path.name != last and (is_base or path.name in BASE_NAMES):
        path = path / last
    return path / daw.own if daw.own else path


def _files(place: Place, config: Config) -> dict[str, bytes]:
    """What shall lie in the folder: relative path, content."""
    source = shipped("daw_scripts").joinpath(*place.daw.source)
    files = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in sorted(source.rglob(f"*{place.daw.suffix}"))
        if "__pycache__" not in path.parts
    }
    if not files:
        raise InstallError(
            f"{source} holds no scripts for {place.daw.title}. Install dawbridge again.", "incomplete"
        )
    for name in place.daw.shared:
        files["dawbridge/" + name.rpartition("/")[2]] = (shipped("daw_scripts") / name).read_bytes()
    return files | {place.daw.paths_file: _paths_body(place, config)}


def _paths_body(place: Place, config: Config) -> bytes:
    """The file that tells a script where the folders are."""
    inbox, outbox = _two_folders(config)
    told = {"inbox": inbox, "outbox": outbox, "version": shipped_version()}
    if place.daw.paths_file.endswith(".lua"):
        lines = [f"  {key} = {_quoted(place.daw, value)}," for key, value in told.items()]
        return "\n".join(["return {", *lines, "}", ""]).encode()
    defaults: dict[str, Any] = dict(LIVE_SETTINGS) if place.daw.name == "live" else {}
    path = place.folder / place.daw.paths_file
    table = {"schema": SCHEMA} | defaults | _user_settings(path) | told
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()


def _user_settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_bytes().decode("utf-8-sig"))
    except ValueError as exc:
        raise InstallError(f"{path} is damaged ({exc}). Mend or delete it, then install again.") from exc
    return table if isinstance(table, dict) else {}


def _is_paths_file(path: Path) -> bool:
    return {"inbox", "outbox", "version"} <= _user_settings(path).keys()


def _two_folders(config: Config) -> tuple[str, str]:
    return str(config.watch[0].inbox.absolute()), str(config.outbox.absolute())


def _quoted(daw: Daw, text: str) -> str:
    """As it stands in the paths file."""
    if not daw.paths_file.endswith(".lua"):
        return json.dumps(text, ensure_ascii=False)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _step(folder: Path, name: str, body: bytes, record: Record) -> Step:
    path = folder / name
    if not os.path.lexists(path):
        return Step("new", path)
    found = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    if found == body:
        return Step("same", path)
    holds_settings = found is not None and name.endswith(".json") and _is_paths_file(path)
    if found is None or (name not in record.files and not holds_settings):
        raise InstallError(
            f"{path} stands there and isn't ours: nothing was written. Move it away, then install again.",
            "not_ours",
        )
    if holds_settings or _digest(found) in record.files[name]:  # what the user set is in `body` too
        return Step("update", path)
    return Step("keep", path, "you changed it; delete it and install again to get ours")


def _removal(folder: Path, name: str, digests: tuple[str, ...], why: str) -> Step:
    path = folder / name
    if not path.is_symlink() and _digest(path.read_bytes()) in digests:
        return Step("remove", path, why)
    return Step("keep", path, "you changed it; delete it yourself")


def _apply(folder: Path, steps: list[Step], wanted: Mapping[str, bytes], record: Record) -> None:
    """The record goes first, with the old digests and the new ones: a power cut leaves nothing that isn't ours."""
    new = {name: _digest(body) for name, body in wanted.items()}
    names = {folder / name: name for name in (*wanted, *record.files)}
    kept = [names[step.path] for step in steps if step.action == "keep"]
    both = {name: (digest, *record.files.get(name, ())) for name, digest in new.items()} | {
        name: digests for name, digests in record.files.items() if name not in new
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write_record(folder, replace(record, files=both))
    for step in steps:
        if step.action in ("new", "update"):
            step.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(step.path) as file:
                file.write(wanted[names[step.path]])
        elif step.action == "remove":
            _remove(step.path)
    files: dict[str, tuple[str, ...]] = {name: (digest,) for name, digest in new.items() if name not in kept}
    files |= {name: record.files[name] for name in kept if name in wanted}
    _write_record(folder, Record(shipped_version(), files))


def _remove(path: Path) -> None:
    """A file of ours, and what Python compiled of it."""
    path.unlink()
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def _remove_empty(folder: Path) -> None:
    """A folder of ours and those in it, where nothing else lies in them."""
    if not folder.is_dir():
        return
    for inner in [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]:
        _remove_empty(inner)
    if not any(folder.iterdir()):
        folder.rmdir()


def _read_record(folder: Path) -> Record:
    path = folder / RECORD
    try:
        with path.open("rb") as file:
            table = json.loads(file.read(MAX_RECORD_BYTES).decode())
        files = {str(name): tuple(map(str, digests)) for name, digests in table["files"].items()}
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
            raise ValueError("it names a file elsewhere")
        return Record(str(table["version"]), files)
    except FileNotFoundError:
        return Record("", {})
    except NotADirectoryError as exc:
        raise InstallError(f"{folder} is no folder: nothing was written. Move it away.", "not_ours") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InstallError(
            f"{path} is damaged ({exc}). Delete it and the scripts beside it, then: dawbridge install-scripts"
        ) from exc


def _write_record(folder: Path, record: Record) -> None:
    table = {
        "schema": SCHEMA,
        "version": record.version,
        "files": {n: list(d) for n, d in record.files.items()},
    }
    with replacing(folder / RECORD) as file:
        file.write((json.dumps(table, indent=1) + "\n").encode())


def _moved_file(folders: Folders) -> Path:
    return folders.state / "scripts.json"


def _moved(folders: Folders) -> dict[str, tuple[str, ...]]:
    """Where `--path` put scripts: DAW -> folders."""
    try:
        table = json.loads(_moved_file(folders).read_text(encoding="utf-8"))
        return {str(name): tuple(map(str, paths)) for name, paths in table.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or damaged: as good as none
        return {}


def _digest(body: bytes) -> str:
    return sha256(body).hexdigest()
