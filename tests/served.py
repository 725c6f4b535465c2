"""A daemon's HTTP in a thread of the test, on a real socket, with a control that writes down what is asked of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.config import Config, Folders, HttpConfig, folders
from bridge.control import Control
from bridge.ledger import Ledger
from bridge.returned import Shelf
from bridge.webserver import serving

WAIT_S = 20.0
STOP_S = 1.5


class WritesDown(Control):
    """Asks no daemon: what it would have asked stands in `asked`."""

    def __init__(self, where: Folders, ledger: Ledger, shelf: Shelf) -> None:
        super().__init__(where, ledger, shelf)
        self.asked: list[Mapping[str, Any]] = []

    def _ask(self, body: Mapping[str, Any], timeout_s: float = 0.0) -> Mapping[str, Any]:
        self.asked.append(body)
        return {"ok": True, "job": body.get("job", "new"), "state": "queued"}


@dataclass
class Served:
    """The server as its clients see it."""

    url: str
    port: int
    token: str | None
    control: WritesDown
    ledger: Ledger
    outbox: Path
    told: list[Mapping[str, Any]] = field(default_factory=list)
    tell: Any = None

    def connect(self, timeout_s: float = WAIT_S) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def headers(self, **more: str) -> dict[str, str]:
        """With the token; `more` lies over them, None takes one away."""
        own = {"Host": f"127.0.0.1:{self.port}", "Authorization": f"Bearer {self.token}"}
        return {**own, **more}

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one request; `body` is sent as JSON."""
        status, _, raw = self.raw(method, path, body, headers)
        table: dict[str, Any] = json.loads(raw)
        return status, table

    def raw(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and bytes of one request. Nothing about it is normalised on the way."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            sent = self.headers() if headers is None else headers
            data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value.encode("latin-1"))
            if data is not None:
                if "Content-Type" not in sent:
                    connection.putheader("Content-Type", "application/json")
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders()
            if data is not None:
                connection.send(data)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


class _Faults(logging.Handler):
    """What uvicorn has to complain of: nothing."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def served(outbox: Path, **settings: Any) -> Iterator[Served]:
    """HTTP on a free loopback port while the block runs; `settings` are those of `[http]`."""
    outbox.mkdir(exist_ok=True)
    where = folders()
    ledger = Ledger(where.ledger)
    control = WritesDown(where, ledger, Shelf(outbox))
    config = Config(outbox=outbox, http=HttpConfig(**settings))
    up, stop = threading.Event(), asyncio.Event()
    found: list[Served] = []
    fault: list[BaseException] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        told: list[Mapping[str, Any]] = []
        async with serving(config, where, control, told.append) as (url, tell):
            state = json.loads(where.http_state.read_text())
            found.append(Served(url, state["port"], state["token"], control, ledger, outbox, told, tell))
            up.set()
            await stop.wait()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve())
            loop.run_until_complete(loop.shutdown_default_executor())
        except BaseException as exc:  # noqa: BLE001 -- handed to the test below
            fault.append(exc)
        finally:
            up.set()
            loop.close()

    faults_told = _Faults()
    logging.getLogger("uvicorn.error").addHandler(faults_told)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert up.wait(WAIT_S)
        if fault:
            raise fault[0]
        yield found[0]
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        stopped_s = time.monotonic()
        thread.join(WAIT_S)
        ledger.close()
        logging.getLogger("uvicorn.error").removeHandler(faults_told)
    assert not thread.is_alive()
    assert time.monotonic() - stopped_s < STOP_S
    assert faults_told.lines == []
    assert not fault, fault
