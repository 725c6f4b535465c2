"""Who may speak to the daemon by HTTP at all. An ASGI wrapper that answers everybody else, before any route is looked at.

A web page that the user has open must not reach the daemon: so the Host must be ours (a name that an attacker
points at this machine is refused: DNS rebinding), and an Origin, where there is one, must be the daemon's own.
Beyond that everybody needs the token, and no body larger than `MAX_BODY_BYTES` is taken in.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.errors import DawbridgeError

MAX_BODY_BYTES = 64_000
LINGER_S = 2.0
HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
OPEN = ("/health",)
"""Answered without a token, with nothing but that somebody is there."""
SAFE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class HttpError(DawbridgeError):
    """What a request did wrong; `status` is the answer's."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, code)
        self.status = status


@dataclass(frozen=True)
class Address:
    """Where the server listens."""

    host: str  # an address, or "localhost"
    port: int

    def is_ours(self, host: str) -> bool:
        """Whether a request with this Host header means us."""
        match = HOST.fullmatch(host.lower())
        if match is None or (match[2] is not None and int(match[2]) != self.port):
            return False
        return match[1] in self._names or (self._is_everywhere and _is_address(match[1]))

    @property
    def _is_everywhere(self) -> bool:
        return self.host != "localhost" and ipaddress.ip_address(self.host).is_unspecified

    @property
    def _names(self) -> tuple[str, ...]:
        own = (f"[{self.host.lower()}]" if ":" in self.host else self.host.lower(),)
        if not self._is_everywhere:
            return (*LOOPBACK, *own)
        name = socket.gethostname().lower()
        return (*LOOPBACK, name, f"{name}.local")


class Door:
    """Lets through what may come in. In the scope's state it leaves `trusted`: the token was there, or none is needed."""

    def __init__(self, app: ASGIApp, address: Address, token: str | None) -> None:
        self._app = app
        self._address = address
        self._token = token  # None: everybody who gets this far is trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        state = scope["state"]
        state["body_ended"] = not any(
            n in (b"content-length", b"transfer-encoding") for n, _ in scope["headers"]
        )

        async def receive_noting_the_end() -> Message:
            message = await receive()
            state["body_ended"] = not message.get("more_body", False)
            return message

        try:
            self._check(scope)
        except HttpError as exc:
            await refuse(exc, scope, receive_noting_the_end, send)
            return
        await self._app(scope, receive_noting_the_end, send)

    def _check(self, scope: Scope) -> None:
        headers = scope["headers"]
        host = _only(headers, b"host")
        if host is None or not self._address.is_ours(host):
            raise HttpError(
                403, "host", f"Host {(host or '')[:80]!r} is not this daemon. Use the url in http.json."
            )
        origins = [value for name, value in headers if name == b"origin"]
        if origins and origins != [b"http://" + host.encode("latin-1")]:
            raise HttpError(403, "origin", "Other web pages may not speak to this daemon.")
        length = _only(headers, b"content-length") or "0"
        if not length.isdecimal() or len(length) > 12 or int(length) > MAX_BODY_BYTES:
            raise too_large()
        is_trusted = self._token is None or self._has_token(headers)
        if not is_trusted and scope["path"] not in OPEN:
            raise HttpError(
                401,
                "token",
                "The token in http.json in the state folder is needed: Authorization: Bearer TOKEN. "
                "Each start of the daemon makes a new one.",
            )
        scope["state"]["trusted"] = is_trusted

    def _has_token(self, headers: list[tuple[bytes, bytes]]) -> bool:
        assert self._token is not None
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        is_same = hmac.compare_digest(token.strip(), self._token.encode("ascii"))
        return scheme.lower() == b"bearer" and is_same


def too_large() -> HttpError:
    """A body over the limit."""
    return HttpError(413, "too_large", f"A body may hold {MAX_BODY_BYTES} bytes; put files into an inbox.")


def json_response(
    table: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON object; in ASCII, since a name may hold what is no text."""
    body = json.dumps(table, default=str).encode("ascii")
    return Response(body, status, SAFE_HEADERS | dict(headers or {}), "application/json")


async def refuse(error: HttpError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error. Where a body is still on its way, the connection ends.

    What comes of it is thrown away for a moment: else clients, which first send all they have, would see a
    broken connection instead of the answer.
    """
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    table = {"ok": False, "code": error.code, "detail": error.message}
    if scope["state"]["body_ended"]:
        await json_response(table, error.status, headers)(scope, receive, send)
        return
    response = json_response(table, error.status, headers | {"Connection": "close"})
    last: Message = {}

    async def send_but_the_end(message: Message) -> None:
        nonlocal last
        if message["type"] == "http.response.body":
            last, message = message, {**message, "more_body": True}
        await send(message)

    await response(scope, receive, send_but_the_end)
    try:
        async with asyncio.timeout(LINGER_S):
            while not scope["state"]["body_ended"]:
                await receive()
    except TimeoutError:
        pass
    await send({**last, "body": b"", "more_body": False})


def _only(headers: list[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    """The one header of this name; None where there is none, or several."""
    found = [value for name, value in headers if name == wanted]
    return found[0].decode("latin-1") if len(found) == 1 else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
