"""The HTTP routes, and no more than these: what scripts and pages may ask of the daemon.

All of them are calls of `control.Control`, in threads of their own, so that neither the daemon's loop nor its
workers wait for them. Every answer but an artifact and the event stream is a JSON object; an error is
`{"ok": false, "code", "detail"}`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge import __version__
from bridge.audience import Audience
from bridge.contracts import parse_object
from bridge.control import Control
from bridge.door import (
    MAX_BODY_BYTES,
    SAFE_HEADERS,
    Address,
    Door,
    HttpError,
    json_response,
    refuse,
    too_large,
)
from bridge.errors import DawbridgeError, UsageError
from bridge.install import shipped_version
from bridge.names import printable

MAX_DETAIL = 2000
THREADS = 8  # calls that may wait at a time; further ones queue
STATUS = {
    "unknown_job": 404,
    "unknown_song": 404,
    "unknown_artifact": 404,
    "gone": 404,
    "ended": 409,
    "under_way": 409,
    "elsewhere": 409,
    "not_running": 409,
    "silent": 503,
    "busy": 503,
    "unexpected": 500,
}
"""By an error's code; what is not named here is the asker's fault: 400."""

log = logging.getLogger(__name__)

Answer = Mapping[str, Any]


class Web:
    """The application: `door` is what a server serves."""

    def __init__(self, control: Control, audience: Audience, address: Address, token: str | None) -> None:
        self._control = control
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="http")
        self.door = Door(_Routes(self._routes(audience)), address, token)

    def close(self) -> None:
        """Begin no further call; those that wait for the daemon come to their end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _routes(self, audience: Audience) -> list[BaseRoute]:
        ask = self._control
        return [
            Route("/health", self._health, methods=["GET"]),
            self._get("/jobs", lambda _: {"jobs": ask.jobs()}),
            self._get("/jobs/{id}", lambda given: ask.job(given["id"])),
            Route("/events", audience, methods=["GET"]),
            self._get("/returned", lambda _: {"returned": ask.returned()}),
            Route("/returned/{id}/{artifact}", self._artifact, methods=["GET"]),
            self._get("/live", lambda _: {"live": ask.live()}),
            self._post("/jobs", self._take),
            self._post("/jobs/{id}/cancel", lambda given, _: ask.cancel(given["id"])),
            self._post("/jobs/{id}/retry", lambda given, _: ask.retry(given["id"])),
            self._post("/live/controls", self._live_controls),
        ]

    def _get(self, path: str, call: Callable[[Mapping[str, str]], Answer]) -> Route:
        async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
            table = await self._in_thread(call, scope["path_params"])
            await json_response(table)(scope, receive, send)

        return Route(path, _Endpoint(endpoint), methods=["GET"])

    def _post(self, path: str, call: Callable[[Mapping[str, str], Answer], Answer]) -> Route:
        async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
            body = await _json_body(scope, receive)
            if body is not None:
                table = await self._in_thread(call, scope["path_params"], body)
                await json_response(table)(scope, receive, send)

        return Route(path, _Endpoint(endpoint), methods=["POST"])

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _health(self, request: Request) -> Any:
        known = {"version": __version__, "pid": os.getpid(), "scripts": shipped_version()}
        return json_response({"ok": True} | (known if request.state.trusted else {}))

    async def _artifact(self, request: Request) -> Any:
        given = request.path_params
        path = await self._in_thread(self._control.artifact, given["id"], given["artifact"])
        found = await self._in_thread(path.stat)
        # Never shown as a page of this origin, whatever the file holds.
        return FileResponse(
            path,
            filename=printable(path.name),
            headers=SAFE_HEADERS,
            stat_result=found,
            media_type=_media(path.suffix),
        )

    def _take(self, _: Mapping[str, str], body: Answer) -> Answer:
        _check_keys(body, "path", "preset", "role")
        return self._control.take(body.get("path"), body.get("preset", ""), body.get("role", ""))

    def _live_controls(self, _: Mapping[str, str], body: Answer) -> Answer:
        if "command" in body:
            _check_keys(body, "command")
            return self._control.live_command(body["command"])
        _check_keys(body, "name", "value")
        if "value" not in body:
            raise UsageError('Send {"name": ..., "value": ...}, or {"command": ...}.')
        return self._control.live_set(body.get("name"), body["value"])


class _Endpoint:
    """An ASGI function as Starlette's `Route` takes it: a plain function would be given a Request."""

    def __init__(self, call: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._call(scope, receive, send)


class _Routes:
    """The first route that fits; every error becomes an answer. Nothing is redirected."""

    def __init__(self, routes: list[BaseRoute]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_noting_the_begin(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._find(scope)(scope, receive, send_noting_the_begin)
            return
        except HttpError as exc:
            error = exc
        except DawbridgeError as exc:
            error = HttpError(STATUS.get(exc.code, 400), exc.code, exc.message[:MAX_DETAIL])
        except Exception as exc:  # the border: a fault in one request stays one answer
            log.exception("%s %s failed", scope["method"], printable(scope["path"]))
            told = f"This is a fault in dawbridge ({type(exc).__name__}); the log has the details."
            error = HttpError(500, "unexpected", told)
        if has_begun:  # a file that vanished while it was sent: only the end of the connection can tell
            scope["state"]["hang_up"]()
        else:
            await refuse(error, scope, receive, send)

    def _find(self, scope: Scope) -> ASGIApp:
        allowed: set[str] = set()
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope.update(child)
                return route.handle
            if match is Match.PARTIAL and isinstance(route, Route):
                allowed |= route.methods or set()
        if allowed:
            raise HttpError(405, "method", f"Only {', '.join(sorted(allowed))} is known here.")
        raise HttpError(404, "route", "There is nothing at this address.")


async def _json_body(scope: Scope, receive: Receive) -> Answer | None:
    """The body as a JSON object, an empty one as {}; None where the client left."""
    raw = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        raw += message.get("body", b"")
        if len(raw) > MAX_BODY_BYTES:
            raise too_large()
        if not message.get("more_body"):
            break
    if not raw:
        return {}
    kind = dict(scope["headers"]).get(b"content-type", b"")
    # A page elsewhere may send plain text unasked, JSON it may not.
    if kind.partition(b";")[0].strip().lower() != b"application/json":
        raise HttpError(415, "content_type", "The body must be JSON: Content-Type: application/json.")
    return parse_object(raw, "The body", UsageError, "Send a JSON object.")


def _check_keys(body: Answer, *known: str) -> None:
    for key in body:
        if key not in known:
            raise UsageError(f"Unknown key {key[:80]!r}. Known keys: {', '.join(known)}.")


def _media(suffix: str) -> str:
    kinds = {".wav": "audio/wav", ".mid": "audio/midi", ".html": "text/html; charset=utf-8"}
    return kinds.get(suffix.lower(), "application/octet-stream")
