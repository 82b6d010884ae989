"""Origins: which web pages may open a WebSocket.

A browser sends cookies with a WebSocket handshake that any page starts, and no CORS rule stops it;
only the Origin header tells such a page from ours (RFC 6455 section 10.2). Programs other than
browsers send no Origin or any they like, so this check is no authentication.

Names are compared as text, without resolution or conversion: write an international name as a
browser sends it (``xn--…``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from .sites import DEFAULT_PORTS, Site, entry_of, site_of

__all__ = ["OriginPolicy"]


class OriginPolicy:
    """Allows or refuses a handshake by its Origin header.

    Args:
        allowed: ``"*"`` for every page; ``"same-host"`` for pages of the host name that the request
            went to, whatever the port; or a list of hosts (``example.com``), origins
            (``https://example.com``, ``https://example.com:8443``) and wildcards for all subdomains
            (``*.example.com``, which does not include ``example.com``). The list may also contain
            ``"same-host"``. An entry without a scheme or a port allows every scheme or port.

    Raises:
        ValueError: an entry has none of these forms.
    """

    def __init__(self, allowed: str | Sequence[str]) -> None:
        self._entries = [allowed] if isinstance(allowed, str) else list(allowed)
        self._all = "*" in self._entries
        self._same_host = "same-host" in self._entries
        self._sites = tuple(entry_of(entry) for entry in self._entries if entry not in ("*", "same-host"))

    def check(self, origin: str | None, hosts: Sequence[str]) -> bool:
        """Whether a handshake may go on.

        Args:
            origin: the Origin header; ``None`` without one, which passes: only browsers must send it.
            hosts: the hosts that the request names as its own, each with or without a port.

        Returns:
            ``False`` for a page that is not allowed. ``null`` (a sandboxed frame, a local file) and
            malformed origins pass only where ``"*"`` is allowed.
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
        """The line of configuration that would allow ``origin`` in addition to the present entries.

        It is safe to log: a malformed origin is not repeated.
        """
        if _page(origin) is None:
            return 'allowed_origins="*"'
        return f"allowed_origins={json.dumps([*self._entries, origin.lower()], ensure_ascii=False)}"


def _page(origin: str) -> Site | None:
    """The site of an Origin header, its port filled in; ``None`` for a value that no page can have."""
    site = site_of(origin)
    if site is None or site.scheme is None or site.host.startswith("*."):
        return None
    # Filled in, so that an entry with the default port matches a browser, which leaves it out.
    return site._replace(port=site.port or DEFAULT_PORTS.get(site.scheme))


def _names(hosts: Iterable[str]) -> set[str]:
    return {site.host for host in hosts if (site := site_of(host)) is not None}
