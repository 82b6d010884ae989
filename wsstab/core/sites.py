"""Sites: how a place on the web is written, by a browser in an Origin header and by who configures which may connect.

Names are compared as text; nothing is resolved. What cannot be read is no site, and where it is plain what was meant,
`correction` tells it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["DEFAULT_PORTS", "Site", "correction", "entry_of", "site_of"]

MAX_LENGTH = 300
"""Characters; a host name has at most 253 (RFC 1035 section 2.3.4). What is longer is not looked at."""

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

SITE = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?"
    r"(?P<host>(?:\*\.)?[\w-]+(?:\.[\w-]+)*\.?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
WORDS = ("same-host", "null")
"""What looks like a host name, and means something else."""

ADDRESS_BAR = re.compile(
    r"(?P<scheme>(?:https?|wss?)://)?(?:[^/?#@]*@)?(?P<host>[^/?#@]*)(?P<rest>[/?#].*)?", re.DOTALL
)
"""What people copy from one: with a path, a query and a user."""


class Site(NamedTuple):
    """A place on the web; where one is an entry of the list, ``None`` and a leading ``*.`` stand for any."""

    scheme: str | None
    host: str
    port: int | None

    def allows(self, page: Site) -> bool:
        """Whether ``page`` is one of those that this entry stands for."""
        if self.scheme not in (None, page.scheme) or self.port not in (None, page.port):
            return False
        if self.host.startswith("*."):
            return page.host.endswith(self.host[1:])
        return page.host == self.host


def site_of(text: str) -> Site | None:
    """The site that a text names; ``None`` for none."""
    match = SITE.fullmatch(text.lower()) if len(text) <= MAX_LENGTH else None
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65_535:
        return None
    return Site(match["scheme"], match["host"].removesuffix("."), port)


def entry_of(entry: str) -> Site:
    """The sites that an entry of ``allowed_origins`` stands for.

    Raises:
        ValueError: it stands for none.
    """
    site = site_of(entry) if isinstance(entry, str) else None
    # Any page can make itself "null" by opening a sandboxed frame: to allow it is to allow all.
    if site is None or site.host in WORDS:
        raise ValueError(
            f'allowed_origins: {entry!r}: must be "*", "same-host", a host ("example.com", "*.example.com") '
            'or an origin ("https://example.com", "https://example.com:8443"), without a path'
        )
    return site


def correction(entry: str) -> str | None:
    """What who wrote ``entry`` has meant, where that is plain; ``None`` where it is not, or where it is right."""
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
        # As in cookies, and as in a shell.
        host = f"*.{host.lstrip('*.')}"
    return (match["scheme"] or "") + host


def _is_entry(text: str) -> bool:
    site = site_of(text)
    return site is not None and site.host not in WORDS
