"""Addresses: the client's address and the requested host, behind proxies.

Forwarding headers are believed only as far as trusted proxies wrote them. The walk goes from the
nearest proxy outwards and stops at the first address that is no trusted proxy: the client may have
forged everything to the left of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from ..types import Scope
from .networks import Network, network_of

__all__ = ["ClientAddress"]

MAX_HOPS = 100
"""Most entries of X-Forwarded-For that are examined, from the right."""

LONGEST_ADDRESS = 100
"""Most characters of an address: IPv6 has 45, and the name of an interface may follow. A longer text is no address."""

HOP = re.compile(
    r"\[(?P<bracketed>[0-9a-fA-F:.]+)\](?::[0-9]{1,5})?"
    r"|(?P<v4>[0-9.]+)(?::[0-9]{1,5})?"
    r"|(?P<v6>[0-9a-fA-F:.]+)"
)

_Address: TypeAlias = IPv4Address | IPv6Address

# Not `ipaddress.is_private`: it also counts the addresses of documentation, differs between
# versions of Python, and leaves out 100.64.0.0/10, where many a cluster has its load balancers.
PRIVATE: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
"""RFC 1918, RFC 6598, loopback, link-local, and RFC 4193."""


class ClientAddress:
    """Finds the client behind the proxies.

    Args:
        trusted_proxies: addresses and networks (``10.0.0.0/8``) whose forwarding headers are
            believed; ``"*"`` for those of every peer. One string is one entry.

    Raises:
        ValueError: an entry is no address, no network and not ``"*"``.
    """

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        entries = [trusted_proxies] if isinstance(trusted_proxies, str) else list(trusted_proxies)
        self._all = "*" in entries
        self._networks = tuple(network_of(entry) for entry in entries if entry != "*")
        # All clients behind a proxy share its address.
        self._peers = lru_cache(maxsize=1024)(self._peer)

    def of(self, scope: Scope) -> str | None:
        """The client's address.

        A server may have replaced the proxy by the client already, as uvicorn does for proxies it
        trusts itself; such a peer is treated like any other.

        Args:
            scope: the scope of the handshake.

        Returns:
            The peer's address as the server reports it. If the peer is a trusted proxy: the
            right-most entry of X-Forwarded-For that is no trusted proxy, or, if all are trusted, the
            left-most one examined (100 at most). An entry that is no address ends the walk at the entry
            before it. The result has neither port nor brackets; IPv4-mapped IPv6 becomes IPv4. ``None`` if
            the server knows no address, as behind a Unix socket.
        """
        client = scope.get("client")
        # The common case, for which the cache has the answer. The length is bounded because the cache keeps the text.
        if client and type(client[0]) is str and len(client[0]) <= LONGEST_ADDRESS:
            peer, trusted = self._peers(client[0])
        else:
            peer = _peer(scope)
            trusted = self._trusts(peer)
        return (self._forwarded_for(scope) if trusted else None) or peer

    def forwarded_host(self, scope: Scope, peer: str | None = None) -> list[str]:
        """The hosts under which the request was made, to compare an Origin with.

        X-Forwarded-Host counts only when a trusted proxy certainly sent the request. A client with
        port 0 was set by the server from a header, and the sender of that header is no longer known:
        the server may trust more than ``trusted_proxies``, or every peer. Such a client is therefore no
        proof, unless ``"*"`` is trusted. A wire that knows the other end of the TCP connection passes
        it as ``peer``. A proxy that forwards the Host header needs none of this.

        Args:
            scope: the scope of the handshake.
            peer: address of the other end of the TCP connection, if it is known for certain.

        Returns:
            The Host header, then the first value of X-Forwarded-Host, if present.
        """
        hosts = _values(scope, b"host")[:1]
        if self._trusts(peer or _certain_peer(scope)):
            hosts += ",".join(_values(scope, b"x-forwarded-host")).split(",", 1)[:1]
        return [host for host in map(str.strip, hosts) if host]

    @staticmethod
    def is_private(address: str | None) -> bool:
        """Whether ``address`` is a loopback or link-local address, or one of a private network."""
        parsed = _parse(address)
        return parsed is not None and _within(parsed, PRIVATE)

    def _peer(self, text: str) -> tuple[str | None, bool]:
        """The normalized address of a peer, and whether its headers are believed."""
        parsed = _parse(text)
        peer = text or None if parsed is None else str(parsed)
        return peer, self._trusts(peer)

    def _trusts(self, address: str | None) -> bool:
        if self._all:
            return True
        parsed = _parse(address)
        return parsed is not None and _within(parsed, self._networks)

    def _forwarded_for(self, scope: Scope) -> str | None:
        found = None
        values = _values(scope, b"x-forwarded-for")
        if not values:
            return None
        # The right-most entries come from the nearest proxies. Only so many are split off, because a client may send a
        # header of any length.
        for hop in reversed(",".join(values).rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            address = _hop(hop)
            if address is None:
                break
            found = address
            if not self._trusts(address):
                break
        return found


def _peer(scope: Scope) -> str | None:
    """The address in ``scope["client"]``: a tuple, by the specification, a list on some servers, or nothing."""
    client = scope.get("client")
    if not isinstance(client, tuple | list) or not client or not isinstance(client[0], str):
        return None
    parsed = _parse(client[0])
    return client[0] or None if parsed is None else str(parsed)


def _certain_peer(scope: Scope) -> str | None:
    """The peer, unless the server may have rewritten it: no TCP connection comes from port 0."""
    client: Sequence[object] = scope.get("client") or ()
    return _peer(scope) if len(client) > 1 and str(client[1]) != "0" else None


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope.get("headers", ()) if key.lower() == name]


def _hop(text: str) -> str | None:
    """The address in one entry of X-Forwarded-For; ``None`` when it is none."""
    match = HOP.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    parsed = _parse(match["bracketed"] or match["v4"] or match["v6"])
    return None if parsed is None else str(parsed)


def _parse(text: str | None) -> _Address | None:
    # The cache below keeps text that peers wrote, so the length of its entries must be bounded too.
    return _parsed(text) if text and len(text) <= LONGEST_ADDRESS else None


# Cached, because a handshake parses the same address several times, and all clients behind a proxy share one.
@lru_cache(maxsize=1024)
def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _within(address: _Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
