"""Origins: which web pages may open a socket here.

A browser sends cookies with a WebSocket handshake that any page starts, and no CORS rule stops it;
the Origin header is all that tells such a page from ours (RFC 6455 section 10.2). Programs other
than browsers send none, or what they like: this is no authentication.

Nothing is resolved or converted: names are compared as text, so an international name is written as
a browser sends it (``xn--…``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["OriginPolicy"]

MAX_LENGTH = 300
"""Characters; a host name has at most 253 (RFC 1035 section 2.3.4). What is longer is not looked at."""

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

SITE = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?"
    r"(?P<host>(?:\*\.)?[\w-]+(?:\.[\w-]+)*\.?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


class _Site(NamedTuple):
    """A place on the web; where one is an entry of the list, ``None`` and a leading ``*.`` stand for any."""

    scheme: str | None
    host: str
    port: int | None

    def allows(self, page: _Site) -> bool:
        """Whether ``page`` is one of those that this entry stands for."""
        if self.scheme not in (None, page.scheme) or self.port not in (None, page.port):
            return False
        if self.host.startswith("*."):
            return page.host.endswith(self.host[1:])
        return page.host == self.host


class OriginPolicy:
    """Decides by Origin header.

    Args:
        allowed: ``"*"`` for every page; ``"same-host"`` for pages of the host name that the request
            went to, whatever the port; or a list of hosts (``example.com``), origins
            (``https://example.com``, ``https://example.com:8443``) and names with any subdomain
            (``*.example.com``, which is not ``example.com`` itself), in which ``"same-host"`` may
            stand as well. An entry without a scheme or a port allows every one.

    Raises:
        ValueError: an entry is none of these.
    """

    def __init__(self, allowed: str | Sequence[str]) -> None:
        self._entries = [allowed] if isinstance(allowed, str) else list(allowed)
        self._all = "*" in self._entries
        self._same_host = "same-host" in self._entries
        self._sites = tuple(_entry(entry) for entry in self._entries if entry not in ("*", "same-host"))

    def check(self, origin: str | None, hosts: Sequence[str]) -> bool:
        """Whether a handshake may go on.

        Args:
            origin: the Origin header; ``None`` where there is none, as with every program that is
                not a browser, which passes.
            hosts: what the request gives as its own host, each with or without a port.

        Returns:
            ``False`` for a page that is not allowed. ``null`` (a sandboxed frame, a local file) and
            what is not an origin at all pass only where everything does.
        """
        if self._all or origin is None:
            return True
        page = _page(origin)
        if page is None:
            return False
        if self._same_host and page.host in _names(hosts):
            return True
        return any(site.allows(page) for site in self._sites)

    def hint(self, origin: str) -> str:
        """The line of configuration that would allow ``origin`` beside what is allowed already.

        It is fit for a log: nothing of an origin that cannot be read is repeated.
        """
        if _page(origin) is None:
            return 'allowed_origins="*"'
        return f"allowed_origins={json.dumps([*self._entries, origin.lower()], ensure_ascii=False)}"


def _entry(entry: str) -> _Site:
    site = _site(entry) if isinstance(entry, str) else None
    # Any page can make itself "null" by opening a sandboxed frame: to allow it is to allow all.
    if site is None or site.host == "null":
        raise ValueError(
            f'allowed_origins: {entry!r}: must be "*", "same-host", a host ("example.com", "*.example.com") '
            'or an origin ("https://example.com", "https://example.com:8443"), without a path'
        )
    return site


def _page(origin: str) -> _Site | None:
    """The site of an Origin header, its port filled in; ``None`` for what a page cannot have."""
    site = _site(origin)
    if site is None or site.scheme is None or site.host.startswith("*."):
        return None
    return site._replace(port=site.port or DEFAULT_PORTS.get(site.scheme))


def _names(hosts: Iterable[str]) -> set[str]:
    return {site.host for host in hosts if (site := _site(host)) is not None}


def _site(text: str) -> _Site | None:
    match = SITE.fullmatch(text.lower()) if len(text) <= MAX_LENGTH else None
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65_535:
        return None
    return _Site(match["scheme"], match["host"].removesuffix("."), port)
