"""Daemons find each other where that is of use, tell nobody else, and believe nothing that they hear."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from bridge import __version__, discovery
from bridge.config import HttpConfig
from bridge.discovery import SERVICE, announced, find_peers
from bridge.errors import DiscoveryError
from bridge.types import Peer

LOOPBACK = ["127.0.0.1"]
PATIENCE_S = 8.0
ON_REQUEST = HttpConfig(announce=True)


async def wait_for_peers(*ports: int, **options: Any) -> dict[int, Peer]:
    """By port, those of `ports` that are there once all of them are, or are no longer. Another test may run beside.

    Who has just told of itself is silent for a second, so each try listens for longer.
    """
    until_s = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        peers = await find_peers(1.5, interfaces=LOOPBACK, **options)
        found = {peer.port: peer for peer in peers if peer.port in ports}
        if len(found) == len(ports) or asyncio.get_running_loop().time() > until_s:
            return found


def test_two_daemons_are_told_apart_with_port_version_and_whether_a_token_is_needed() -> None:
    async def go() -> None:
        told: list[Mapping[str, Any]] = []
        without = HttpConfig(announce=True, token_needed=False)
        async with (
            announced(ON_REQUEST, 4711, "a" * 16, told.append),
            announced(without, 4712, "b" * 16, told.append),
        ):
            found = await wait_for_peers(4711, 4712)
            first, second = found[4711], found[4712]
            assert (first.host, first.port, first.version, first.needs_token) == (
                "127.0.0.1", 4711, __version__, True,
            )  # fmt: skip
            assert (second.port, second.needs_token) == (4712, False)
            assert first.name != second.name
            assert first.name.startswith("dawbridge on ")
            others = {peer.port for peer in await find_peers(1.5, interfaces=LOOPBACK, but="a" * 16)}
            assert 4712 in others and 4711 not in others
        ended = {peer.port for peer in await find_peers(1.5, interfaces=LOOPBACK)}
        assert not ended & {4711, 4712}
        assert told == []

    asyncio.run(go())


def test_a_daemon_that_only_this_machine_reaches_tells_the_network_nothing_unless_asked_to() -> None:
    assert not HttpConfig().is_announced
    assert not HttpConfig(host="localhost").is_announced
    assert not HttpConfig(host="::1").is_announced
    assert HttpConfig(host="0.0.0.0").is_announced
    assert HttpConfig(host="192.168.1.5").is_announced
    assert not HttpConfig(host="0.0.0.0", announce=False).is_announced
    assert not HttpConfig(host="0.0.0.0", enabled=False).is_announced
    assert ON_REQUEST.is_announced

    async def go() -> tuple[Peer, ...]:
        async with announced(HttpConfig(), 4713, "c" * 16, lambda _: None):
            return await find_peers(1.5)

    assert 4713 not in {peer.port for peer in asyncio.run(go())}


def test_on_loopback_only_the_loopback_interface_is_spoken_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from zeroconf import asyncio as zeroconf_asyncio

    made: list[Any] = []

    class Noted(zeroconf_asyncio.AsyncZeroconf):
        def __init__(self, interfaces: Any) -> None:
            made.append(interfaces)
            super().__init__(interfaces=interfaces)

    monkeypatch.setattr(zeroconf_asyncio, "AsyncZeroconf", Noted)

    async def go() -> None:
        async with announced(ON_REQUEST, 4714, "d" * 16, lambda _: None):
            await asyncio.sleep(0.1)

    asyncio.run(go())
    assert made == [["127.0.0.1"]]


def test_what_a_hostile_peer_tells_is_plain_text_of_bounded_length() -> None:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    async def go() -> Peer:
        info = AsyncServiceInfo(
            SERVICE,
            f"evil\x9b2J\u202ename.{SERVICE}",
            port=4716,
            properties={b"version": b"\x1b]0;owned\x07" + b"9" * 200, b"token": b"\xff", b"id": None},
            server="evil.local.",
            parsed_addresses=["127.0.0.1"],
        )
        zeroconf = AsyncZeroconf(interfaces=LOOPBACK)
        try:
            await zeroconf.async_register_service(info, cooperating_responders=True, strict=False)
            peer = (await wait_for_peers(4716))[4716]
        finally:
            await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()
        return peer

    peer = asyncio.run(go())
    assert (peer.name + peer.version).isprintable()
    assert len(peer.version) <= 63
    assert peer.needs_token


def test_without_a_network_the_daemon_is_warned_and_a_search_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from zeroconf import asyncio as zeroconf_asyncio

    def breaks(**_: Any) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(zeroconf_asyncio, "AsyncZeroconf", breaks)

    async def go() -> list[Mapping[str, Any]]:
        told: list[Mapping[str, Any]] = []
        with caplog.at_level(logging.CRITICAL):
            async with announced(ON_REQUEST, 4715, "e" * 16, told.append):
                await asyncio.sleep(0.05)
        return told

    (warning,) = asyncio.run(go())
    assert (warning["event"], "Network is unreachable" in warning["detail"]) == ("warning", True)
    with pytest.raises(DiscoveryError, match="Network is unreachable"):
        asyncio.run(find_peers(0.1))


def test_a_daemon_on_all_addresses_tells_those_that_others_reach() -> None:
    addresses = discovery._addresses("192.168.1.5")
    assert addresses == ["192.168.1.5"]
    assert discovery._addresses("localhost") == LOOPBACK
    try:
        every = discovery._addresses("0.0.0.0")
    except DiscoveryError as exc:  # a machine that has no network at all
        assert "no address but loopback" in exc.message
    else:
        assert every and not any(address.startswith("127.") for address in every)
