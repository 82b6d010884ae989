"""Networks: the notation of trusted proxies, as addresses or networks.

Names are not resolved: a name may resolve differently later, and the set of trusted proxies must not change.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

__all__ = ["Network", "correction", "network_of"]

Network: TypeAlias = IPv4Network | IPv6Network

MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4 as a socket that listens on IPv6 shows it (RFC 4291 section 2.5.5.2)."""

WITH_PORT = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[0-9.]+))(?::[0-9]+)?(?P<length>/[0-9]+)?")
"""An address with the port to connect to; also one with brackets but without a port."""


def network_of(entry: str) -> Network:
    """Parse an entry of ``trusted_proxies``; a single address becomes a network of one.

    Raises:
        ValueError: the entry is malformed.
    """
    try:
        network = ip_network(entry)
    except ValueError:
        raise ValueError(
            f'trusted_proxies: {entry!r}: must be an address ("10.0.0.5"), a network ("10.0.0.0/8", the bits '
            'after its length being 0) or "*"'
        ) from None
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - MAPPED.prefixlen))
    return network


def correction(entry: str) -> str | None:
    """The entry that was probably meant by ``entry``; ``None`` where that is unclear or ``entry`` is right."""
    meant = entry.strip()
    if (match := WITH_PORT.fullmatch(meant)) is not None:
        meant = (match["v6"] or match["v4"] or "") + (match["length"] or "")
    try:
        network = ip_network(meant, strict=False)
    except ValueError:
        return "*" if meant == "*" != entry else None
    found = str(network) if "/" in meant else meant
    return None if found == entry else found
