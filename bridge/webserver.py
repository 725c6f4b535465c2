"""Serves the routes of `web` inside the daemon's own loop, by uvicorn, and says in `http.json` where and with which token.

No client can take the daemon's time or room: connections are few, those that do not get on with their
request are ended (the oldest first, where the room is needed), and so are those that do not take their answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bridge import __version__
from bridge.atomic import replacing
from bridge.audience import Audience, Tell
from bridge.config import Config, Folders, HttpConfig
from bridge.control import Control
from bridge.discovery import announced
from bridge.door import Address
from bridge.errors import ConfigError
from bridge.web import Web

MAX_CONNECTIONS = 64
ASKING_S = 10.0  # from the begin of a connection, or the last answer, to the end of the next request's body
KEEP_ALIVE_S = 5
STALL_S = 20.0  # a client that takes nothing of its answer for so long is gone
MAX_HEAD_BYTES = 16_384
BACKLOG = 128
STOP_S = 2

log = logging.getLogger(__name__)


@asynccontextmanager
async def serving(
    config: Config, folders: Folders, control: Control, tell: Tell
) -> AsyncIterator[tuple[str, Tell]]:
    """HTTP for as long as the block runs: its url, and a `tell` that the clients of /events hear too.

    Raises:
        ConfigError: the configured address or port can't be had.
    """
    http = config.http
    listening = _listen(http)
    address = Address(http.host, listening.getsockname()[1])
    token = secrets.token_urlsafe(32) if http.token_needed else None
    audience = Audience(tell)
    web = Web(control, audience, address, token)
    server = _server(web)
    serving_task = asyncio.create_task(server.serve(sockets=[listening]))
    peer_id = secrets.token_hex(8)
    try:
        await _started(server, serving_task)
        url = _url(address)
        _write_state(folders, address, url, token, peer_id)
        async with announced(http, address.port, peer_id, audience.tell):
            yield url, audience.tell
    finally:
        folders.http_state.unlink(missing_ok=True)
        audience.close()
        server.should_exit = True
        await asyncio.gather(serving_task, return_exceptions=True)
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        web.close()


def _listen(http: HttpConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    both = http.host == "::" and socket.has_dualstack_ipv6()
    try:
        listening = socket.create_server(
            (http.host, http.port), family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except OSError as exc:
        raise ConfigError(
            f"http: port {http.port} of {http.host} can't be had ({exc.strerror}). "
            "Set http.port = 0 for a free one, and http.host to an address of this machine."
        ) from exc
    listening.setblocking(False)
    return listening


def _server(web: Web) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            web.door,
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # what a hostile client sends must not fill our log
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
    )


async def _started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0.005)


def _url(address: Address) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"


def _write_state(folders: Folders, address: Address, url: str, token: str | None, peer_id: str) -> None:
    """For the user's own eyes only: whoever reads the token may do all that the routes do."""
    table = {
        "schema": 1,
        "url": url,
        "host": address.host,
        "port": address.port,
        "token": token,
        "version": __version__,
        "pid": os.getpid(),
        "peer_id": peer_id,  # what zeroconf tells of us, so that `peers` leaves us out
    }
    with replacing(folders.http_state, mode=0o600) as file:
        file.write(json.dumps(table, indent=1).encode("ascii") + b"\n")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's business."""
        yield


class PatientProtocol(H11Protocol):
    """One connection. uvicorn alone waits for ever for a request that never ends, and for an answer that nobody takes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app_state = {**self.app_state, "hang_up": self.hang_up}  # stands in each scope's `state`
        self._asking: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def is_asking(self) -> bool:
        """It is the client's turn: no request is there, or not all of it."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def hang_up(self) -> None:
        """End it now, whatever is on its way."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room where there is none."""
        super().connection_made(transport)
        self._wait_for_request()
        if len(self.connections) > MAX_CONNECTIONS:
            asking = [c for c in self.connections if isinstance(c, PatientProtocol) and c.is_asking]
            oldest = min(asking, key=lambda connection: connection._asked_since_s)
            oldest.connections.discard(oldest)
            oldest.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        super().connection_lost(exc)
        for timer in (self._asking, self._stalled, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()

    def on_response_complete(self) -> None:
        """The next request has its own time."""
        self._wait_for_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client takes its answer slowly."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_S, self.hang_up)

    def resume_writing(self) -> None:
        """It took some."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def _wait_for_request(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asked_since_s = self.loop.time()
        self._asking = self.loop.call_later(ASKING_S, self._end_if_asking)

    def _end_if_asking(self) -> None:
        if self.is_asking:
            self.hang_up()
