"""Where the best separation is asked for, a draft comes back first and says so; the best follows and replaces it."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bridge import manifest, process, retrying, weights
from bridge.audio import Samples
from bridge.config import folders
from bridge.errors import StageError
from bridge.filecontrol import FileControl
from bridge.rebuilding import learn
from bridge.stages import separate
from bridge.terminal import job_table, narrator
from bridge.types import ModelRef, Stem
from bridge.workshop import open_workshop
from tests.running_queue import Running, running
from tests.test_daemon import RunningDaemon, export_from_daw
from tests.test_htdemucs import put_model

PRESETS = {
    "best": '[separate]\nengine = "htdemucs"\n[convert]\nvoice = "bright"\n[analyse]\n',
    "stems_only": '[separate]\nengine = "htdemucs"\n',
    "fast": '[separate]\nengine = "spleeter"\n',
}


class Engines:
    """Stand-ins for the networks: what ran in which order, what shall fail, and a gate for the slow one."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.failing = ""
        self.code: str | None = None
        self.gate = threading.Event()
        self.gate.set()

    def run(
        self,
        stereo: Samples,
        engine: str,
        models_dir: Path,
        report: Callable[[float, float], None],
        _level: object,
    ) -> dict[Stem, Samples]:
        self.ran.append(engine)
        if engine == self.failing:
            raise StageError(f"{engine} failed as told", self.code)
        while engine != "spleeter" and not self.gate.wait(0.01):
            report(1, 2)
        share = 0.25 if engine == "spleeter" else 0.125
        return {"vocals": share * stereo, "drums": share * stereo, "bass": share * stereo}


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, dawbridge_home: Path) -> Iterator[Engines]:
    engines = Engines()
    real = weights.why_unavailable, weights.refs

    def why_unavailable(name: str, models_dir: Path) -> str | None:
        return None if name == "htdemucs" else real[0](name, models_dir)

    def refs(name: str, models_dir: Path) -> tuple[ModelRef, ...]:
        return () if name == "htdemucs" else real[1](name, models_dir)

    monkeypatch.setattr(weights, "why_unavailable", why_unavailable)
    monkeypatch.setattr(weights, "refs", refs)
    monkeypatch.setattr(separate, "_run_engine", engines.run)
    folders().presets.mkdir(parents=True)
    for name, text in PRESETS.items():
        (folders().presets / f"{name}.toml").write_text(text)
    yield engines
    engines.gate.set()


def jobs(daemon: Running, is_draft: bool, name: str = "Song.wav") -> list[dict[str, Any]]:
    return [job for job in daemon.control.jobs() if job["draft"] is is_draft and job["name"] == name]


def until(daemon: Running, state: str, *, draft: bool, name: str = "Song.wav") -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        return next((job for job in jobs(daemon, draft, name) if job["state"] == state), None)

    job: dict[str, Any] = daemon.wait(found, f"{state}, draft: {draft}")
    return job


def published(daemon: Running) -> list[str]:
    return sorted(path.name for path in daemon.outbox.iterdir() if not path.name.startswith("."))


def test_the_draft_is_revision_1_and_the_best_follows_as_revision_2_that_replaces_it(
    engines: Engines, dawbridge_home: Path
) -> None:
    engines.gate.clear()
    with running(dawbridge_home, "stems_only") as daemon:
        daemon.drop("Song.wav")
        draft_job = until(daemon, "done", draft=True)
        assert published(daemon) == ["Song"]  # while the best is still being made
        engines.gate.set()
        best_job = until(daemon, "done", draft=False)
        draft, best = (manifest.read_manifest(Path(job["folder"])) for job in (draft_job, best_job))
        told = [(one["id"], one["draft"]) for one in daemon.told if one["event"] == "job"]
        returned = daemon.control.returned()
        FileControl(daemon.control, [daemon.inbox], daemon.outbox, daemon.told.append).look()
        status = json.loads((daemon.outbox / ".dawbridge" / "status.json").read_text())
    assert engines.ran == ["spleeter", "htdemucs"]
    assert (draft.revision, draft.draft, draft.replaces) == (1, True, "")
    assert (best.revision, best.draft, best.replaces) == (2, False, draft.id)
    assert {a.name for a in draft.artifacts if a.approximate} == {"drums", "bass", "other"}
    assert draft.settings["separate"]["engine"] == "spleeter" and draft.preset == "stems_only"
    assert told == [(draft.id, True), (best.id, False)]
    for songs in (returned, status["returned"]):
        assert [(song["id"], song["draft"], song["replaces"]) for song in songs] == [
            (best.id, False, draft.id),
            (draft.id, True, ""),
        ]
    assert [job["draft"] for job in status["jobs"]] == [False, True]


def test_a_draft_has_no_voice_and_keeps_what_the_bounce_tells_of_its_project(
    engines: Engines, dawbridge_home: Path
) -> None:
    engines.gate.clear()
    with running(dawbridge_home, "best") as daemon:
        sidecar = {"schema": 1, "project": "My project", "track": "Vox"}
        (daemon.inbox / "Song.wav.dawbridge.json").write_text(json.dumps(sidecar))
        daemon.drop("Song.wav")
        job = until(daemon, "done", draft=True)
        draft = manifest.read_manifest(Path(job["folder"]))
    assert (job["project"], job["track"]) == ("My project", "Vox")
    assert set(draft.settings) == {"separate", "analyse", "export"}
    assert draft.voice is None and not any(artifact.synthetic for artifact in draft.artifacts)


@pytest.mark.parametrize(("preset", "name"), [("fast", "Song.wav"), ("stems_only", "vocals/Song.wav")])
def test_neither_the_fast_engine_nor_a_part_gets_a_draft(
    engines: Engines, dawbridge_home: Path, preset: str, name: str
) -> None:
    with running(dawbridge_home, preset) as daemon:
        (daemon.inbox / "vocals").mkdir()
        daemon.drop(name)
        until(daemon, "done", draft=False)
        assert not jobs(daemon, True) and published(daemon) == ["Song"]


def test_with_draft_false_there_is_none(engines: Engines, dawbridge_home: Path) -> None:
    with running(dawbridge_home, "stems_only", draft=False) as daemon:
        daemon.drop("Song.wav")
        job = until(daemon, "done", draft=False)
        assert not jobs(daemon, True)
        assert manifest.read_manifest(Path(job["folder"])).replaces == ""


def test_where_the_stems_are_kept_there_is_nothing_to_wait_for_and_no_draft(
    engines: Engines, dawbridge_home: Path
) -> None:
    with running(dawbridge_home, "stems_only") as daemon:
        daemon.drop("Song.wav")
        until(daemon, "done", draft=False)
        daemon.drop("Renamed.wav")  # the same audio: another job, the same stems
        until(daemon, "done", draft=False, name="Renamed.wav")
        assert not jobs(daemon, True, "Renamed.wav")
    assert engines.ran == ["spleeter", "htdemucs"]


def test_a_restart_goes_on_with_the_best_and_makes_no_second_draft(
    engines: Engines, dawbridge_home: Path
) -> None:
    engines.gate.clear()
    with running(dawbridge_home, "stems_only", keep_jobs=True) as daemon:
        daemon.drop("Song.wav")
        draft = until(daemon, "done", draft=True)
        until(daemon, "running", draft=False)
        threading.Timer(0.3, engines.gate.set).start()  # a thread can't be ended from outside
    engines.gate.set()
    with running(dawbridge_home, "stems_only") as daemon:
        best = until(daemon, "done", draft=False)
        assert manifest.read_manifest(Path(best["folder"])).replaces == draft["id"]
        assert published(daemon) == ["Song", "Song (2)"]
    assert engines.ran.count("spleeter") == 1


def test_a_draft_that_fails_does_not_hold_up_the_best(engines: Engines, dawbridge_home: Path) -> None:
    engines.failing = "spleeter"
    with running(dawbridge_home, "stems_only") as daemon:
        daemon.drop("Song.wav")
        until(daemon, "failed", draft=True)
        until(daemon, "done", draft=False)
        assert published(daemon) == ["Song"]


def test_a_draft_that_is_held_up_does_not_come_after_the_best(
    engines: Engines, dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "REST_S", 600.0)
    monkeypatch.setattr(retrying, "LONGEST_REST_S", 600.0)
    engines.failing, engines.code = "spleeter", "disk_full"
    engines.gate.clear()
    with running(dawbridge_home, "stems_only") as daemon:
        daemon.drop("Song.wav")
        until(daemon, "waiting", draft=True)
        engines.gate.set()
        until(daemon, "done", draft=False)
        until(daemon, "cancelled", draft=True)
        assert published(daemon) == ["Song"]


def test_a_best_that_fails_leaves_the_draft_and_a_retry_makes_no_other(
    engines: Engines, dawbridge_home: Path
) -> None:
    engines.failing = "htdemucs"
    with running(dawbridge_home, "stems_only") as daemon:
        daemon.drop("Song.wav")
        failed = until(daemon, "failed", draft=False)
        assert published(daemon) == ["Song"]
        engines.failing = ""
        daemon.control.retry(failed["id"])
        best = until(daemon, "done", draft=False)
        assert best["replaces"] == jobs(daemon, True)[0]["id"]
        assert published(daemon) == ["Song", "Song (2)"]
    assert engines.ran.count("spleeter") == 1


@pytest.mark.parametrize("how", ["dropped again", "retried", "processed"])
def test_a_best_that_was_called_off_once_its_stems_were_kept_still_replaces_its_draft(
    engines: Engines, dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(process, "open_workshop", functools.partial(open_workshop, inline=True))
    with running(dawbridge_home, "stems_only") as daemon:
        song = daemon.drop("Song.wav")
        best = until(daemon, "done", draft=False)
        shutil.rmtree(best["folder"])
        daemon.ledger.set_state(best["id"], "cancelled")
        if how == "retried":
            daemon.control.retry(best["id"])
        elif how == "processed":
            work = process.process_file(song, daemon.outbox, "stems_only", "", {}, lambda _: None)
            assert asyncio.run(work).state == "done"
        else:
            daemon.drop("Song.wav")
        again = until(daemon, "done", draft=False)
        draft = jobs(daemon, True)[0]["id"]
        assert (again["id"], again["replaces"]) == (best["id"], draft)
        assert manifest.read_manifest(daemon.outbox / "Song (2)").replaces == draft
        assert published(daemon) == ["Song", "Song (2)"]
    assert engines.ran == ["spleeter", "htdemucs"]


def test_drafts_go_first_and_calling_off_the_best_calls_off_its_draft(
    engines: Engines, dawbridge_home: Path
) -> None:
    engines.gate.clear()
    with running(dawbridge_home, "stems_only") as daemon:
        daemon.drop("Song.wav")
        until(daemon, "running", draft=False)
        daemon.drop("Second.wav", seed=1)
        daemon.drop("Third.wav", seed=2)
        second = until(daemon, "queued", draft=False, name="Second.wav")
        until(daemon, "queued", draft=False, name="Third.wav")
        daemon.control.cancel(second["id"])
        assert [job["state"] for job in jobs(daemon, True, "Second.wav")] == ["cancelled"]
        daemon.drop("Fourth.wav", seed=3)
        until(daemon, "queued", draft=False, name="Fourth.wav")
        engines.gate.set()
        for name in ("Third.wav", "Fourth.wav"):
            until(daemon, "done", draft=False, name=name)
        ended = [(one["name"], one["draft"]) for one in daemon.told if one["event"] == "job"]
    assert ended[-4:] == [
        ("Third.wav", True),
        ("Fourth.wav", True),
        ("Third.wav", False),
        ("Fourth.wav", False),
    ]
    assert "Second" not in published(daemon)


def test_two_presets_share_one_draft_that_runs_once_and_can_be_called_off(
    engines: Engines, dawbridge_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, engines_run = threading.Event(), separate._run_engine

    def run(
        stereo: Samples, engine: str, models: Path, report: Callable[[float, float], None], level: Any
    ) -> Any:
        while engine == "spleeter" and not hold.wait(0.01):
            report(1, 2)
        return engines_run(stereo, engine, models, report, level)

    monkeypatch.setattr(separate, "_run_engine", run)
    (folders().presets / "second.toml").write_text(PRESETS["stems_only"] + "[report]\n")
    engines.gate.clear()
    with running(dawbridge_home, "stems_only") as daemon:
        (daemon.inbox / "second").mkdir()
        daemon.drop("Song.wav")
        draft = until(daemon, "running", draft=True)
        daemon.drop("second/Song.wav")
        daemon.wait(lambda: len(jobs(daemon, False)) == 2, "second best")
        assert [job["id"] for job in jobs(daemon, True)] == [draft["id"]]
        assert daemon.control.cancel(draft["id"])["state"] == "cancelling"
        until(daemon, "cancelled", draft=True)
        hold.set()
        engines.gate.set()
        daemon.wait(lambda: [job["state"] for job in jobs(daemon, False)] == ["done", "done"], "both")
        told = [one["event"] for one in daemon.told if one.get("id") == draft["id"]]
        assert published(daemon) == ["Song", "Song (2)"] and "spleeter" not in engines.ran
    assert told == ["queued", "job"]


def test_forgetting_a_draft_takes_nothing_up_again(engines: Engines, dawbridge_home: Path) -> None:
    with running(dawbridge_home, "stems_only") as daemon:
        daemon.drop("Song.wav")
        until(daemon, "done", draft=False)
        daemon.control.forget(jobs(daemon, True)[0]["id"])
        daemon.drop("Next.wav", seed=1)  # once it is done, the forgotten one's file has been looked at
        until(daemon, "done", draft=False, name="Next.wav")
        assert not jobs(daemon, True) and published(daemon) == ["Next", "Next (2)", "Song", "Song (2)"]


def test_a_person_is_told_which_one_is_the_draft(engines: Engines, dawbridge_home: Path) -> None:
    with running(dawbridge_home, "stems_only") as daemon:
        daemon.drop("Song.wav")
        best = until(daemon, "done", draft=False)
        console = Console(file=io.StringIO(), width=300)
        tell = narrator(console, as_json=False)
        for message in daemon.told:
            tell(message)
        console.print(job_table([(row, ()) for row in daemon.ledger.jobs()]))
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    draft = best["replaces"]
    assert f"Song.wav queued as job {draft}, preset stems_only, a draft" in lines
    assert f"Song.wav queued as job {best['id']}, preset stems_only" in lines
    assert f"Song.wav (draft) done: {daemon.outbox / 'Song'}" in lines
    assert f"{draft} Song.wav stems_only (draft) done {daemon.outbox / 'Song'}" in lines
    assert f"{best['id']} Song.wav stems_only done {daemon.outbox / 'Song (2)'}" in lines


def test_a_rebuilt_ledger_knows_drafts_from_the_outbox(engines: Engines, dawbridge_home: Path) -> None:
    with running(dawbridge_home, "stems_only") as daemon:
        daemon.drop("Song.wav")
        until(daemon, "done", draft=False)
        before = {job["id"]: (job["draft"], job["replaces"]) for job in daemon.control.jobs()}
        daemon.ledger.forget_ended()
        learn(daemon.ledger, daemon.outbox, folders().spool)
        assert {job["id"]: (job["draft"], job["replaces"]) for job in daemon.control.jobs()} == before
        assert sorted(draft for draft, _ in before.values()) == [False, True]


@pytest.mark.real
def test_a_real_daemon_returns_the_draft_then_htdemucs(dawbridge_home: Path) -> None:
    folders().models.unlink()  # of its own: other tests count on there being no htdemucs
    folders().models.mkdir()
    put_model("htdemucs", folders().models)
    folders().presets.mkdir(parents=True)
    (folders().presets / "quick.toml").write_text(PRESETS["stems_only"])
    folders().config_file.write_text("settle_s = 0.3\n")
    daemon = RunningDaemon(dawbridge_home)
    try:
        daemon.wait_for("ready")
        export_from_daw(daemon.inbox, "Song.wav")
        draft_job = daemon.wait_for("job")
        best_job = daemon.wait_for("job")
    finally:
        daemon.end()
    assert (draft_job["state"], best_job["state"]) == ("done", "done"), (draft_job, best_job)
    draft, best = (manifest.read_manifest(Path(job["folder"])) for job in (draft_job, best_job))
    assert manifest.verify(Path(draft_job["folder"])) == manifest.verify(Path(best_job["folder"])) == ()
    assert (draft.revision, draft.draft, best.revision, best.replaces) == (1, True, 2, draft.id)
    assert [one.software.models[0].name.split("/")[0] for one in (draft, best)] == ["spleeter", "htdemucs"]
