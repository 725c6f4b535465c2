"""A ledger of every earlier dawbridge is brought up to date, and all that it held is still there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from bridge.ledger import Ledger
from bridge.ledger_rows import KeptFile
from bridge.ledger_schema import SCHEMA_VERSION, SCHEMAS

BOUNCE = (
    '{"path": "spool/x.wav", "name": "Song.wav", "sha256": "ff", "role": "mix", "sample_rate_hz": 48000, '
    '"channels": 2, "frames": 96000, "start_frames": 480, "tempo_map": null, "tempo_source": "estimated", '
    '"key": null, "is_float": false}'
)
FIRST_DATA = (
    f"""INSERT INTO jobs VALUES ('abc', 'Song.wav', '/in/Song.wav', 'offline', '/out', 'running',
       '2026-11-22T10:00:00Z', NULL, '{BOUNCE}', '{{"separate": {{"engine": "spleeter"}}}}', '{{}}', '[]', '[]',
       NULL, '', '')""",
    """INSERT INTO jobs VALUES ('def', 'Old.wav', '/in/Old.wav', 'offline', '/out', 'done',
       '2026-11-21T10:00:00Z', '2026-11-21T10:01:00Z', NULL, '{}', '{}', '[]', '["odd"]', '/out/Old', '', '')""",
    "INSERT INTO stages VALUES ('abc', 'separate', 'done', 1.0, 1.0, '[\"stems\"]', '', '4 stems', 2.5)",
    'INSERT INTO results VALUES (\'key\', \'separate\', \'[{"name": "stems", "sha256": "aa", "suffix": ""}]\','
    " 'four', '{}')",
    "INSERT INTO seen VALUES ('/in/Song.wav', 7, 8, 9, 'abc')",
)


def as_of(path: Path, version: int, data: tuple[str, ...] = ()) -> None:
    """The file as that version made it, by its own SQL."""
    db = sqlite3.connect(path, isolation_level=None)
    for schema in SCHEMAS[:version]:
        db.executescript(schema)
    for statement in data:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_what_an_older_dawbridge_knew_is_known(tmp_path: Path, version: int) -> None:
    path = tmp_path / "ledger.sqlite"
    extra = {1: "", 2: "", 3: ", 'My project', 'Vox'", 4: ", 'My project', 'Vox', 1, 'd1'"}
    columns = extra.get(version, extra[4])
    data = tuple(
        one[: one.rindex(")")] + columns + ")" if one.startswith("INSERT INTO jobs") else one
        for one in FIRST_DATA
    )
    if version >= 5:
        data = tuple(one.replace("7, 8, 9", "8, 9") for one in data)
    as_of(path, version, data)
    ledger = Ledger(path)
    assert not ledger.is_new
    assert {row.id: (row.state, row.folder) for row in ledger.jobs()} == {
        "abc": ("running", None),
        "def": ("done", "/out/Old"),
    }
    (stored,) = ledger.unfinished()
    assert (stored.bounce.start_frames, stored.settings) == (480, {"separate": {"engine": "spleeter"}})
    assert stored.project == ("My project" if version >= 3 else "")
    assert (stored.draft, stored.replaces) == ((True, "d1") if version >= 4 else (False, ""))
    assert [(event.stage, event.made) for event in ledger.stages("abc")] == [("separate", ("stems",))]
    result = ledger.find_result("key")
    assert result is not None and result.files == (KeptFile("stems", "aa", ""),)
    assert ledger.is_seen(Path("/in/Song.wav"), 8, 9)
    assert ledger.answer_of(ledger.request("daemon", {"name": "x"})) is None
    ledger.close()


def test_every_path_to_the_newest_schema_ends_at_the_same_tables(tmp_path: Path) -> None:
    def tables(path: Path) -> set[tuple[str, str]]:
        db = sqlite3.connect(path)
        found = {
            (name, column[1])
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
            for column in db.execute(f"PRAGMA table_info({name})")
        }
        db.close()
        return found

    Ledger(tmp_path / "fresh").close()
    for version in range(1, SCHEMA_VERSION):
        as_of(tmp_path / str(version), version)
        Ledger(tmp_path / str(version)).close()
        assert tables(tmp_path / str(version)) == tables(tmp_path / "fresh")


def test_a_migration_that_is_cut_off_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    as_of(path, 1, FIRST_DATA)
    with monkeypatch.context() as patch:
        patch.setattr(
            "bridge.ledger_schema.SCHEMAS", (SCHEMAS[0], SCHEMAS[1], "ALTER TABLE nothing ADD COLUMN x")
        )
        with pytest.raises(Exception, match="nothing"):
            Ledger(path)
    ledger = Ledger(path)
    assert len(ledger.jobs()) == 2
    ledger.close()
