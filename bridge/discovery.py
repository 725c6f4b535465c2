"""Other dawbridges on the local network, by zeroconf: `_dawbridge._tcp`, TXT `version`, `token` (1: one is needed) and `id`.

Only a daemon that others can reach tells the network of itself. One that listens on loopback is of no use to them: it
is told of only on request (`announce = true`), and on the loopback interface alone, for other programs of this machine.
What peers tell of themselves comes from the network: it is bounded and stripped of all that is no plain text.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from bridge import __version__
from bridge.config import HttpConfig
from bridge.errors import DiscoveryError
from bridge.types import Peer

if TYPE_CHECKING:  # half as large as the whole daemon, and most daemons stay on loopback
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo

SERVICE = "_dawbridge._tcp.local."
MAX_PEERS = 64
MAX_TEXT = 63  # a DNS label's length
ASK_S = 1.0
ABSENT = "The local network can't be asked ({}). Check that this machine has one."

log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Any]], None]


@asynccontextmanager
async def announced(http: HttpConfig, port: int, peer_id: str, tell: Tell) -> AsyncIterator[None]:
    """Tell the network of the daemon while the block runs, where that is of use. What goes wrong is a warning."""
    if not http.is_announced:
        yield
        return
    telling = asyncio.create_task(_announce(http, port, peer_id, tell))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def find_peers(
    seconds: float, *, but: str = "", interfaces: Sequence[str] | None = None
) -> tuple[Peer, ...]:
    """Listen for so long; who is there, by name. `but` is the id of our own daemon.

    Raises:
        DiscoveryError: there is no network to ask.
    """
    from zeroconf import DNSQuestionType, InterfaceChoice
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

    names: dict[str, None] = {}

    def heard(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change.name == "Removed":
            names.pop(name, None)
        elif len(names) < MAX_PEERS:
            names[name] = None

    try:
        zeroconf = AsyncZeroconf(interfaces=list(interfaces) if interfaces else InterfaceChoice.All)
    except OSError as exc:
        raise DiscoveryError(ABSENT.format(exc.strerror or exc)) from exc
    try:
        # Answers by multicast: one to this machine alone may go to another program that listens on mDNS' port.
        how = DNSQuestionType.QM
        browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[heard], question_type=how)
        await asyncio.sleep(seconds)
        await browser.async_cancel()
        infos = [AsyncServiceInfo(SERVICE, name) for name in names]
        await asyncio.gather(*(info.async_request(zeroconf.zeroconf, ASK_S * 1000, how) for info in infos))
    finally:
        await zeroconf.async_close()
    peers = [peer for info in infos if (peer := _peer(info, but)) is not None]
    return tuple(sorted(peers, key=lambda peer: (peer.name, peer.host, peer.port)))


async def _announce(http: HttpConfig, port: int, peer_id: str, tell: Tell) -> None:
    try:
        await _until_cancelled(http, port, peer_id)
    except Exception as exc:  # no network, or a foreign zeroconf service that upsets the library
        log.exception("zeroconf does not run")
        tell({"event": "warning", "name": "zeroconf", "detail": ABSENT.format(exc)})


async def _until_cancelled(http: HttpConfig, port: int, peer_id: str) -> None:
    from zeroconf import InterfaceChoice
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    addresses = _addresses(http.host)
    info = AsyncServiceInfo(
        SERVICE,
        f"{_label(socket.gethostname(), peer_id)}.{SERVICE}",
        port=port,
        properties={"version": __version__, "token": "1" if http.token_needed else "0", "id": peer_id},
        server=f"dawbridge-{peer_id}.local.",
        parsed_addresses=addresses,
    )
    here = [address for address in addresses if ":" not in address]
    zeroconf = AsyncZeroconf(interfaces=here or InterfaceChoice.All)
    try:
        # The name holds random digits: nobody else has it, and there is no need to ask around first.
        await zeroconf.async_register_service(info, cooperating_responders=True)
        await asyncio.Event().wait()
    finally:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()


def _label(hostname: str, peer_id: str) -> str:
    """A name for people, unique on the network."""
    own = hostname.split(".")[0][:30] or "computer"
    return f"dawbridge on {own} ({peer_id[:6]})"


def _addresses(host: str) -> list[str]:
    """Where others reach a daemon that listens on `host`."""
    if host == "localhost":
        return ["127.0.0.1"]
    if not ipaddress.ip_address(host).is_unspecified:
        return [host]
    import ifaddr

    found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if isinstance(ip.ip, str)]
    every = [address for address in found if not ipaddress.ip_address(address).is_loopback]
    if not every:
        raise DiscoveryError(ABSENT.format("it has no address but loopback"))
    return every


def _peer(info: AsyncServiceInfo, but: str) -> Peer | None:
    """What a peer told, or None where it told too little, or is `but`."""
    told = info.decoded_properties
    addresses = info.parsed_addresses()
    if not addresses or not info.port or (but and told.get("id") == but):
        return None
    return Peer(
        name=_plain(info.name.removesuffix(f".{SERVICE}")),
        host=addresses[0],
        port=info.port,
        version=_plain(told.get("version") or ""),
        needs_token=told.get("token") != "0",
    )


def _plain(text: str) -> str:
    """Fit for a terminal: no control characters, no line breaks."""
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_TEXT])
