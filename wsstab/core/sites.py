"""Sites: the notation of an origin, in a browser's Origin header and in the option ``allowed_origins``.

Names are compared as text; nothing is resolved. For an entry that cannot be parsed, `correction` suggests the intended
one where that is clear.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["DEFAULT_PORTS", "Site", "correction", "entry_of", "site_of"]

MAX_LENGTH = 300
"""Most characters that are parsed; a host name has at most 253 (RFC 1035 section 2.3.4)."""

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

SITE = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?"
    r"(?P<host>(?:\*\.)?[\w-]+(?:\.[\w-]+)*\.?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
WORDS = ("same-host", "null")
"""Words that look like host names but mean something else."""

ADDRESS_BAR = re.compile(
    r"(?P<scheme>(?:https?|wss?)://)?(?:[^/?#@]*@)?(?P<host>[^/?#@]*)(?P<rest>[/?#].*)?", re.DOTALL
)
"""A URL as copied from the address bar of a browser: perhaps with a path, a query and a user."""


class Site(NamedTuple):
    """Scheme, host and port. In an entry of ``allowed_origins``, ``None`` and a leading ``*.`` match any."""

    scheme: str | None
    host: str
    port: int | None

    def allows(self, page: Site) -> bool:
        """Whether this entry matches ``page``."""
        if self.scheme not in (None, page.scheme) or self.port not in (None, page.port):
            return False
        if self.host.startswith("*."):
            return page.host.endswith(self.host[1:])
        return page.host == self.host


def site_of(text: str) -> Site | None:
    """The site that a text names; ``None`` if it names none."""
    # The length is checked first, because the text may come from a peer.
    match = SITE.fullmatch(text.lower()) if len(text) <= MAX_LENGTH else None
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65_535:
        return None
    return Site(match["scheme"], match["host"].removesuffix("."), port)


def entry_of(entry: str) -> Site:
    """Parse an entry of ``allowed_origins``.

    Raises:
        ValueError: the entry is malformed.
    """
    site = site_of(entry) if isinstance(entry, str) else None
    # Any page can make its origin "null" by opening a sandboxed frame, so allowing "null" would allow all pages.
    if site is None or site.host in WORDS:
        raise ValueError(
            f'allowed_origins: {entry!r}: must be "*", "same-host", a host ("example.com", "*.example.com") '
            'or an origin ("https://example.com", "https://example.com:8443"), without a path'
        )
    return site


def correction(entry: str) -> str | None:
    """The entry that was probably meant by ``entry``; ``None`` where that is unclear or ``entry`` is right."""
    meant = entry.strip().lower()
    if meant not in (*WORDS, "*"):
        match = ADDRESS_BAR.fullmatch(meant[: 10 * MAX_LENGTH])
        meant = _host_and_scheme(match) if match is not None else ""
    if meant == entry or not (meant in ("*", "same-host") or _is_entry(meant)):
        return None
    return meant


def _host_and_scheme(match: re.Match[str]) -> str:
    host = match["host"].strip()
    if host.startswith(".") or (host.startswith("*") and not host.startswith("*.")):
        # Cookies write a leading dot for subdomains, and shells a star without one.
        host = f"*.{host.lstrip('*.')}"
    return (match["scheme"] or "") + host


def _is_entry(text: str) -> bool:
    site = site_of(text)
    return site is not None and site.host not in WORDS
