"""Addresses: whose connection it is, and under which host, behind proxies.

What a header says is believed only as far as the proxies that wrote it are trusted. The walk goes
from the nearest proxy outwards and stops at the first that is not ours: what is left of it may have
been made up by the client.
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
"""How many entries of X-Forwarded-For are looked at, from the right."""

LONGEST_ADDRESS = 100
"""Characters; IPv6 has 45 at most, and the name of an interface may follow. What is longer is no address."""

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
            believed; ``"*"`` for everybody's. One string is one entry.

    Raises:
        ValueError: an entry is no address, no network and not ``"*"``.
    """

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        entries = [trusted_proxies] if isinstance(trusted_proxies, str) else list(trusted_proxies)
        self._all = "*" in entries
        self._networks = tuple(network_of(entry) for entry in entries if entry != "*")
        # Those behind a proxy all have its address.
        self._peers = lru_cache(maxsize=1024)(self._peer)

    def of(self, scope: Scope) -> str | None:
        """The client's address.

        A server may have put the client in place of its proxy already, as uvicorn does for those it
        trusts itself; such a peer is taken as any other.

        Args:
            scope: of the handshake.

        Returns:
            The peer's address as the server tells it. Where the peer is a trusted proxy: the
            right-most entry of X-Forwarded-For that is no trusted proxy, or the left-most one that
            was looked at (100 at most) where all are; an entry that is no address ends the walk at
            the one before. Without ports and brackets; IPv4 that came as IPv6 is IPv4 again.
            ``None`` where the server knows no address, as behind a Unix socket.
        """
        client = scope.get("client")
        if client and type(client[0]) is str and len(client[0]) <= LONGEST_ADDRESS:
            peer, trusted = self._peers(client[0])
        else:
            peer = _peer(scope)
            trusted = self._trusts(peer)
        return (self._forwarded_for(scope) if trusted else None) or peer

    def forwarded_host(self, scope: Scope, peer: str | None = None) -> list[str]:
        """The hosts under which the request was made, to compare an Origin with.

        X-Forwarded-Host counts only when it is certain that a trusted proxy sent the request. A
        client with port 0 was put there by the server from a header, and who sent that header can
        no longer be seen: the server may trust more than ``trusted_proxies``, or everybody. It is
        therefore not taken as proof, unless ``"*"`` is trusted. A wire that knows the other end of
        the TCP connection tells it as ``peer``; a proxy that passes on the Host header needs none
        of this.

        Args:
            scope: of the handshake.
            peer: address of the other end of the TCP connection, where it is known for certain.

        Returns:
            The Host header, then the first value of X-Forwarded-Host; those that are there.
        """
        hosts = _values(scope, b"host")[:1]
        if self._trusts(peer or _certain_peer(scope)):
            hosts += ",".join(_values(scope, b"x-forwarded-host")).split(",", 1)[:1]
        return [host for host in map(str.strip, hosts) if host]

    @staticmethod
    def is_private(address: str | None) -> bool:
        """Whether ``address`` is one that only a neighbour can have: loopback, link-local or a private network."""
        parsed = _parse(address)
        return parsed is not None and _within(parsed, PRIVATE)

    def _peer(self, text: str) -> tuple[str | None, bool]:
        """The address that a server tells, and whether its headers are believed."""
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
    # What a peer wrote is kept below: so many entries are no bound without one on their length.
    return _parsed(text) if text and len(text) <= LONGEST_ADDRESS else None


# A handshake asks several times for the same address, and those behind a proxy all have its.
@lru_cache(maxsize=1024)
def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _within(address: _Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
