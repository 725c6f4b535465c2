"""One TOML file -> frozen dataclasses. Unknown keys and bad ranges are errors that name key and value.

`read_table` is the one checker of settings: the configuration, the presets and `--set` all use it.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from bridge.errors import ConfigError, DawbridgeError, UsageError
from bridge.live.controls import COMMANDS, FIELDS, Controls, check
from bridge.settings import setting

T = TypeVar("T")

CONFIG_TEMPLATE = """\
# dawbridge's configuration. Every line is optional.

# Where finished songs come back.
outbox = "{outbox}"

# How long a file must be quiet before it counts as settled, in seconds (5 to 10 on a network share).
settle_s = 2.0

# How much disk the cache of finished stages may take, in GB.
store_max_gb = 20.0

# Where the best separation is asked for, a quick draft comes back first; it is replaced by the best.
# draft = false

# One block for each watched export folder.
[[watch]]
inbox = "{inbox}"
preset = "default"    # `dawbridge presets` lists them
# role = "vocals"     # what a bounce in this folder is: mix, vocals, drums, bass, other
# polling = true      # for network shares that send no events

# HTTP for scripts and browsers; port and token stand in http.json in the state folder.
[http]
# enabled = false
# host = "0.0.0.0"          # also from the local network; the token then travels unencrypted
# port = 8377               # 0 = a free one
# announce = false          # zeroconf tells the network of it, unless only this machine can reach it

# A notice on the desktop when a song is back.
[notice]
# enabled = true

# The live companion: `dawbridge live`.
[live]
# enabled = true            # `dawbridge run` starts it too
# inputs = ["Keystation"]   # a port's name, or part of it; without it dawbridge makes the port "dawbridge In"
# output = "loopMIDI Port"  # the same; without it "dawbridge Out"
# link = "transport"        # Ableton Link on the local network: off, tempo, transport

# What it plays; all of it can be set while it runs: `dawbridge live set mode loop`, or by controllers.
[live.controls]
# mode = "call"             # call, continue, loop
# bars = 4
# part = "piano"
# key = "follow"            # or "A minor"

# [[live.cc]]
# number = 20
# control = "temperature"
"""


@dataclass(frozen=True)
class WatchConfig:
    """One watched export folder."""

    inbox: Path = Path()
    preset: str = setting("default")
    role: str = setting("", choices=("", "mix", "vocals", "drums", "bass", "other"))
    polling: bool = False  # for file systems that deliver no events


@dataclass(frozen=True)
class CcConfig:
    """One MIDI controller (continuous controller, "CC") of the musician's, and what it sets or does."""

    number: int = setting(0, lo=0, hi=119)
    control: str = setting("temperature", choices=(*FIELDS, *COMMANDS))


@dataclass(frozen=True)
class LiveConfig:
    """The live companion's set-up; `controls` is what can also be set while it runs."""

    enabled: bool = False  # `dawbridge run` starts it too
    midi: str = setting("auto", choices=("auto", "jack", "alsa", "core", "winmm"))
    inputs: tuple[str, ...] = ()  # names, or parts of names, of ports to hear; none = a virtual port of ours
    output: str = ""  # the same for the port to send to
    link: str = setting("off", choices=("off", "tempo", "transport"))
    song_position: str = setting("auto", choices=("auto", "sixteenths", "clocks"))
    early_ms: float | None = setting(
        None, lo=0.0, hi=200.0
    )  # None: what `doctor --midi-loop` measured, else 0
    answer_note: int = setting(-1, lo=-1, hi=127)
    capture_minutes: float = setting(5.0, lo=0.5, hi=60.0)
    model: str = "dawbridge-small"
    cc: tuple[CcConfig, ...] = ()
    controls: Controls = field(default_factory=Controls)


@dataclass(frozen=True)
class HttpConfig:
    """How the daemon may be spoken to by HTTP."""

    enabled: bool = True
    host: str = setting("127.0.0.1", help="an address of this machine; 0.0.0.0 or :: for all of them")
    port: int = setting(0, lo=0, hi=65535, help="0 = a free one")
    token_needed: bool = True
    announce: bool | None = None  # None: by zeroconf where others can reach it; True: on loopback too

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    @property
    def is_announced(self) -> bool:
        """Zeroconf tells of it."""
        return self.enabled and (not self.is_loopback if self.announce is None else self.announce)


@dataclass(frozen=True)
class NoticeConfig:
    """A notice on the desktop."""

    enabled: bool = False  # when a song is back, or failed


@dataclass(frozen=True)
class Config:
    """What the daemon needs to know."""

    outbox: Path = Path()
    watch: tuple[WatchConfig, ...] = ()
    settle_s: float = setting(2.0, lo=0.05, hi=600.0)
    rescan_s: float = setting(30.0, lo=0.5, hi=3600.0)
    worker_idle_s: float = setting(120.0, lo=1.0, hi=86400.0)
    store_max_gb: float = setting(20.0, lo=0.1, hi=100000.0)
    draft: bool = True  # before a job that separates slowly
    live: LiveConfig = field(default_factory=LiveConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    notice: NoticeConfig = field(default_factory=NoticeConfig)

    @property
    def store_max_bytes(self) -> int:
        """`store_max_gb` in bytes."""
        return int(self.store_max_gb * 1e9)

    def with_inbox(self, inbox: Path, preset: str) -> Config:
        """The same, watching only `inbox`."""
        return dataclasses.replace(self, watch=(WatchConfig(inbox=inbox, preset=preset),))


@dataclass(frozen=True)
class Folders:
    """Where dawbridge keeps its own things; `DAWBRIDGE_HOME` moves all of them."""

    config: Path
    state: Path
    data: Path
    cache: Path

    @property
    def config_file(self) -> Path:
        """The one TOML file."""
        return self.config / "config.toml"

    @property
    def models(self) -> Path:
        """Where weights lie."""
        return self.data / "models"

    @property
    def voices(self) -> Path:
        """Where voice folders lie."""
        return self.data / "voices"

    @property
    def presets(self) -> Path:
        """The user's own presets, found before the shipped ones."""
        return self.config / "presets"

    @property
    def store(self) -> Path:
        """Artifacts named by content."""
        return self.cache / "store"

    @property
    def ledger(self) -> Path:
        """The database of jobs."""
        return self.state / "ledger.sqlite"

    @property
    def live_state(self) -> Path:
        """What the live companion is doing, as JSON; there while it runs."""
        return self.state / "live.json"

    @property
    def http_state(self) -> Path:
        """Where the daemon is reached by HTTP, and its token; there while it runs."""
        return self.state / "http.json"

    @property
    def midi_delays(self) -> Path:
        """What `doctor --midi-loop` measured for each output port."""
        return self.state / "midi_delays.json"

    @property
    def log(self) -> Path:
        """What went wrong in the daemon and its workers, in full."""
        return self.state / "logs" / "dawbridge.log"

    @property
    def program_log(self) -> Path:
        """The same for every other program, e.g. `dawbridge process`."""
        return self.state / "logs" / "programs.log"

    def job_log(self, job_id: str) -> Path:
        """What happened to a job when it last ran."""
        return self.state / "logs" / "jobs" / f"{job_id}.txt"

    @property
    def spool(self) -> Path:
        """Private copies of bounces."""
        return self.state / "spool"


def folders() -> Folders:
    """The folders in force. Nothing is created."""
    home = os.environ.get("DAWBRIDGE_HOME")
    if home:
        root = Path(home).expanduser().absolute()
        return Folders(root / "config", root / "state", root / "data", root / "cache")
    dirs = platformdirs.PlatformDirs("dawbridge", appauthor=False)
    return Folders(
        Path(dirs.user_config_path),
        Path(dirs.user_state_path),
        Path(dirs.user_data_path),
        Path(dirs.user_cache_path),
    )


def shipped(name: str) -> Path:
    """A top-level folder that ships with dawbridge: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "shipped" / name
    return inside if inside.is_dir() else package.parent / name


def default_music_folder() -> Path:
    """Where inbox and outbox lie until the user says otherwise."""
    home = os.environ.get("DAWBRIDGE_HOME")
    base = Path(home).expanduser().absolute() if home else Path(platformdirs.user_music_path())
    return base / "dawbridge"


def default_config() -> Config:
    """What holds without a configuration file."""
    music = default_music_folder()
    return Config(outbox=music / "outbox", watch=(WatchConfig(inbox=music / "inbox"),))


def load_config(path: Path | None = None) -> Config:
    """Read the configuration, or the defaults where no file stands.

    Raises:
        ConfigError: the file is no TOML, or a key or value is wrong.
    """
    path = path or folders().config_file
    if not path.exists():
        return default_config()
    config = read_table(Config, read_toml(path, ConfigError), str(path))
    fallback = default_config()
    if any(watch.inbox == Path() for watch in config.watch):
        raise ConfigError(f'{path}: a [[watch]] block has no inbox. Add inbox = "FOLDER".')
    try:
        check(config.live.controls)
    except UsageError as exc:
        raise ConfigError(f"{path}: live.controls: {exc.message}") from exc
    _check_http(config.http, path)
    beside = path.absolute().parent  # relative paths mean the same wherever the command is called
    return dataclasses.replace(
        config,
        outbox=fallback.outbox if config.outbox == Path() else beside / config.outbox,
        watch=tuple(dataclasses.replace(w, inbox=beside / w.inbox) for w in config.watch) or fallback.watch,
    )


def _check_http(http: HttpConfig, path: Path) -> None:
    try:
        is_loopback = http.is_loopback
    except ValueError as exc:
        raise ConfigError(
            f"{path}: http.host = {http.host!r} is no address. Write 127.0.0.1, 0.0.0.0 or an address of this machine."
        ) from exc
    if not http.token_needed and not is_loopback:
        raise ConfigError(
            f"{path}: http.token_needed = false would let everybody on the network of {http.host} in. Remove it, or "
            'set http.host = "127.0.0.1".'
        )


def write_default_config(path: Path) -> None:
    """Write the commented template; never over an existing file.

    Raises:
        ConfigError: a file stands there already.
    """
    if path.exists():
        raise ConfigError(f"{path} exists already. Edit it, or move it away first.")
    music = default_music_folder()
    path.parent.mkdir(parents=True, exist_ok=True)
    text = CONFIG_TEMPLATE.format(outbox=(music / "outbox").as_posix(), inbox=(music / "inbox").as_posix())
    path.write_text(text, encoding="utf-8")


def read_toml(path: Path, error: type[DawbridgeError]) -> dict[str, Any]:
    """A TOML file as a dict; `error` is raised with the file's name where it can't be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise error(f"{path} can't be read ({exc.strerror}). Check that it exists and is yours.") from exc
    except UnicodeDecodeError as exc:
        raise error(f"{path} is not UTF-8 text. Save it as UTF-8.") from exc
    except tomllib.TOMLDecodeError as exc:
        raise error(f"{path} is not valid TOML: {exc}. Mend that line.") from exc


def read_table(
    cls: type[T],
    table: Mapping[str, Any],
    where: str,
    error: type[DawbridgeError] = ConfigError,
) -> T:
    """Build the frozen dataclass `cls` from a table, checking keys, types, ranges and choices.

    `where` names the file and the table in the error. Nested dataclasses, tuples of them, Paths
    (`~` expanded) and optional fields are understood.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}."
            raise error(f"{where}: unknown key {key!r}. {hint}")
        checked = _convert(hints[key], value, f"{where}: {key}", error)
        _check_range(checked, known[key].metadata, f"{where}: {key}", error)
        values[key] = checked
    return cls(**values)


def parse_scalar(text: str) -> Any:
    """The value of a `--set stage.key=value`: TOML where it parses, else a plain string."""
    if "\n" in text:
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _convert(hint: Any, value: Any, where: str, error: type[DawbridgeError]) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [a for a in typing.get_args(hint) if a is not type(None)]
        if value is None:
            return None
        return _convert(options[0], value, where, error)
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            raise error(f"{where} = {value!r} must be a list.")
        return tuple(_convert(inner, v, f"{where}[{i}]", error) for i, v in enumerate(value))
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise error(f"{where} = {value!r} must be one of {', '.join(map(str, choices))}.")
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise error(f"{where} = {value!r} must be a table.")
        return read_table(hint, value, where, error)
    if hint is Path:
        if not isinstance(value, str):
            raise error(f"{where} = {value!r} must be a path in quotes.")
        try:
            return Path(value).expanduser()
        except RuntimeError as exc:
            raise error(
                f"{where} = {value!r} names a home that does not exist. Write the whole path."
            ) from exc
    return _convert_plain(hint, value, where, error)


def _convert_plain(hint: Any, value: Any, where: str, error: type[DawbridgeError]) -> Any:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint in names and (type(value) is not hint):
        raise error(f"{where} = {value!r} must be {names[hint]}.")
    return value


def _check_range(value: Any, metadata: Mapping[str, Any], where: str, error: type[DawbridgeError]) -> None:
    choices = metadata.get("choices")
    if choices and value is not None and value not in choices:
        shown = ", ".join(repr(c) if c == "" else str(c) for c in choices)
        raise error(f"{where} = {value!r} must be one of {shown}.")
    lo, hi = metadata.get("lo"), metadata.get("hi")
    if (lo is None and hi is None) or value is None:
        return
    below = lo is not None and not value >= lo
    above = hi is not None and not value <= hi
    if below or above:
        bounds = f"from {lo:g} to {hi:g}" if lo is not None and hi is not None else ""
        bounds = bounds or (f"at least {lo:g}" if lo is not None else f"at most {hi:g}")
        raise error(f"{where} = {value!r} is out of range: it must be {bounds}.")
