"""Server-sent events: what the daemon tells, to any number of HTTP clients, none of which can hold it up.

Each client has a queue of bounded length; one that reads too slowly is hung up on. `tell` may be called from
any thread; all else lives on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from bridge.door import HttpError, refuse

MAX_CLIENTS = 16
QUEUE_EVENTS = 256
HEARTBEAT_S = 15.0
END_S = 0.5
HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]

Tell = Callable[[Mapping[str, Any]], None]


class Audience:
    """Everybody who listens on /events. It is an ASGI application itself."""

    def __init__(self, tell: Tell, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._tell = tell
        self._heartbeat_s = heartbeat_s
        self._loop = asyncio.get_running_loop()
        self._clients: set[_Client] = set()
        self._told = 0

    @property
    def size(self) -> int:
        """How many listen."""
        return len(self._clients)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Tell it on, to the clients too."""
        self._tell(message)
        if self._clients:
            with contextlib.suppress(RuntimeError):  # the loop is closing
                self._loop.call_soon_threadsafe(self._spread, message)

    def close(self) -> None:
        """End every stream."""
        for client in self._clients:
            client.over.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client, until it leaves, is too slow, or the daemon stops."""
        if scope["method"] == "HEAD":  # it has all it asked for: nobody listens
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if len(self._clients) >= MAX_CLIENTS:
            busy = HttpError(503, "busy", f"{MAX_CLIENTS} clients listen already. End one of them.")
            await refuse(busy, scope, receive, send)
            return
        client = _Client()
        self._clients.add(client)
        sending = asyncio.create_task(self._send(client, send))
        leaving = asyncio.create_task(_until_gone(receive))
        over = asyncio.create_task(client.over.wait())
        tasks = (sending, leaving, over)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if client.is_slow:
                scope["state"]["hang_up"]()
                await leaving
            is_gone = leaving.done()
        finally:
            self._clients.discard(client)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not is_gone:
            await _end(scope, receive, send)

    async def _send(self, client: _Client, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        text = b"retry: 2000\n\n"
        while True:
            await send({"type": "http.response.body", "body": text, "more_body": True})
            try:
                # Not `wait_for`: in Python 3.11 it may swallow a cancellation (gh-86296).
                async with asyncio.timeout(self._heartbeat_s):
                    text = await client.queue.get()
            except TimeoutError:
                text = b": nothing new\n\n"

    def _spread(self, message: Mapping[str, Any]) -> None:
        self._told += 1
        data = json.dumps(message, default=str)
        text = f"id: {self._told}\nevent: {message['event']}\ndata: {data}\n\n".encode("ascii")
        for client in self._clients:
            try:
                client.queue.put_nowait(text)
            except asyncio.QueueFull:
                client.is_slow = True
                client.over.set()


class _Client:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_EVENTS)
        self.over = asyncio.Event()
        self.is_slow = False


async def _end(scope: Scope, receive: Receive, send: Send) -> None:
    """Say that this was all; a client that does not even take that is hung up on."""
    try:
        async with asyncio.timeout(END_S):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except TimeoutError:
        scope["state"]["hang_up"]()
        await _until_gone(receive)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
