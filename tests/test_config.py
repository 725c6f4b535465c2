"""The one TOML file: every mistake in it is told with key, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import Config, folders, load_config, parse_scalar, read_table, write_default_config
from bridge.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAWBRIDGE_HOME", str(tmp_path))
    return tmp_path


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_defaults_hold(home: Path) -> None:
    config = load_config()
    assert config.outbox == home / "dawbridge" / "outbox"
    assert [watch.preset for watch in config.watch] == ["default"]


def test_the_template_reads_as_the_defaults(home: Path) -> None:
    write_default_config(folders().config_file)
    assert load_config() == Config(outbox=load_config().outbox, watch=load_config().watch)
    assert load_config().watch[0].inbox == home / "dawbridge" / "inbox"


def test_drafts_can_be_switched_off(tmp_path: Path) -> None:
    assert load_config().draft
    assert not load_config(write(tmp_path, "draft = false")).draft


def test_a_standing_configuration_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path, "settle_s = 3.0")
    with pytest.raises(ConfigError, match="exists already"):
        write_default_config(path)
    assert path.read_text() == "settle_s = 3.0"


def test_several_watched_folders_each_with_its_preset(tmp_path: Path) -> None:
    text = '[[watch]]\ninbox = "~/a"\npreset = "offline"\n[[watch]]\ninbox = "/b"\nrole = "drums"\npolling = true\n'
    first, second = load_config(write(tmp_path, text)).watch
    assert first.inbox == Path.home() / "a"
    assert (first.preset, second.role, second.polling) == ("offline", "drums", True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("settle = 2.0", "unknown key 'settle'. Did you mean 'settle_s'?"),
        ("settle_s = -1.0", "settle_s = -1.0 is out of range: it must be from 0.05 to 600"),
        ("settle_s = nan", "settle_s = nan is out of range"),
        ('settle_s = "soon"', "settle_s = 'soon' must be a number"),
        ("settle_s = true", "settle_s = True must be a number"),
        ("outbox = 3", "outbox = 3 must be a path"),
        ('watch = "x"', "watch = 'x' must be a list"),
        ('[[watch]]\ninbox = "a"\nrole = "kazoo"', "watch[0]: role = 'kazoo' must be one of"),
        ("[[watch]]\npreset = 'offline'", "has no inbox"),
        ("settle_s = ", "not valid TOML"),
        ("[http]\nport = 99999", "http: port = 99999 is out of range"),
        ('[http]\nhost = "my-computer"', "http.host = 'my-computer' is no address"),
        (
            '[http]\nhost = "0.0.0.0"\ntoken_needed = false',
            "would let everybody on the network of 0.0.0.0 in",
        ),
        ("[http]\nannounce = 1", "announce = 1 must be true or false"),
    ],
)
def test_a_mistake_is_told_with_key_and_value(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert says in caught.value.message
    assert "config.toml" in caught.value.message


def test_relative_folders_lie_beside_the_file_wherever_the_command_is_called(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, 'outbox = "out"\n[[watch]]\ninbox = "in"\n'))
    assert (config.outbox, config.watch[0].inbox) == (tmp_path / "out", tmp_path / "in")


def test_a_home_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="home that does not exist"):
        load_config(write(tmp_path, 'outbox = "~nobody-of-that-name/out"'))


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b'outbox = "\xff"')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)


def test_whole_numbers_serve_where_numbers_are_asked() -> None:
    assert read_table(Config, {"settle_s": 3}, "here").settle_s == 3.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("152", 152),
        ("0.5", 0.5),
        ("true", True),
        ("bright", "bright"),
        ('"7"', "7"),
        ("", ""),
        ("1\nx = 2", "1\nx = 2"),
    ],
)
def test_a_value_on_the_command_line_is_toml_or_text(text: str, value: object) -> None:
    assert parse_scalar(text) == value


def test_one_variable_moves_all_folders(home: Path) -> None:
    found = folders()
    for path in (
        found.config_file,
        found.models,
        found.voices,
        found.store,
        found.spool,
        found.ledger,
        found.log,
    ):
        assert path.is_relative_to(home)
