"""Door: decides who may open a WebSocket, before the handler runs.

The checks run from cheapest to most expensive: draining, origin, address, the total, then the application's own
``authorize``. Counting and admitting are one step, so that 500 handshakes at once on a limit of 100 yield
exactly 100.
"""

from __future__ import annotations

import logging

import anyio

from ..close import ADDRESS_LIMIT, CONNECTION_LIMIT, DRAINING, NOT_ACCEPTED, ORIGIN_REFUSED, UNAUTHORIZED, Close
from ..config import Authorize, ClientAddressOf, WebSocketConfig
from ..core.address import ClientAddress
from ..core.limits import Admission
from ..core.origin import OriginPolicy
from ..events import LimitHit
from ..levels import is_heard
from ..loop.usercode import awaited, call
from ..routes.terms import Terms
from ..types import Scope
from ..wording import as_in_url, cut, quoted, shown
from .hub import Hub
from .names import limit_of
from .probing import Prober

__all__ = ["Door", "Guest"]

logger = logging.getLogger("wsstab")

LONGEST_LOGGED = 100
"""Characters of a peer's header that go into one log line."""


class Guest:
    """A peer that was let in.

    Args:
        address: the address under which it is counted.
        client_id: the name that ``authorize`` gave it.
    """

    __slots__ = ("address", "client_id")

    def __init__(self, address: str | None, client_id: str | None) -> None:
        self.address = address
        self.client_id = client_id


class Door:
    """Lets WebSockets in.

    Args:
        hub: holds the limits.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        config = hub.config
        self._address = ClientAddress(config.trusted_proxies)
        self._trusts_nobody = not [proxy for proxy in config.trusted_proxies if proxy not in ("127.0.0.1", "::1")]
        self._origins: dict[str | tuple[str, ...], OriginPolicy] = {}
        self._prober = Prober(hub.peers)
        self._authorizing = Admission(max(config.max_connections or 10_000, 100), None)

    async def admit(
        self, scope: Scope, config: WebSocketConfig, peer: str | None = None, terms: Terms | None = None
    ) -> Guest | Close:
        """Let a WebSocket in, or say why not. The caller must give the place back by ``admission.release``.

        Args:
            scope: the scope of the handshake.
            config: the configuration of its path.
            peer: address of the other end of the TCP connection, if the wire knows it.
            terms: the guards to ask; ``None`` for those of ``config``.
        """
        if terms is None:
            terms = Terms.of(config)
        hub = self._hub
        if hub.is_draining:
            return DRAINING
        if not self._origin_allowed(scope, terms, peer):
            return self._refuse("allowed_origins", ORIGIN_REFUSED, scope, None)
        address = self._address_of(scope)
        if hub.admission.full:
            await self._prober.make_room(lambda: not hub.admission.full)
        elif self._address_full(address):
            await self._prober.make_room(lambda: not self._address_full(address), address)
        if not terms.authorize:
            return self._count_in(scope, config, address, None)
        if self._address_full(address):
            return self._refuse("max_connections_per_address", ADDRESS_LIMIT, scope, address)
        # Calls of ``authorize`` run before the limits are checked, so they need a limit of their own.
        if self._surely_full(config) or self._authorizing.admit(address) is not None:
            return self._refuse("max_connections", CONNECTION_LIMIT, scope, address)
        try:
            answer = await self._ask(scope, terms)
        finally:
            self._authorizing.release(address)
        if isinstance(answer, Close):
            return self._refuse("authorize", answer, scope, address)
        return self._count_in(scope, config, address, answer)

    async def ask_again(self, scope: Scope, terms: Terms, peer: str | None, address: str | None) -> Close | str | None:
        """Ask guards that were not asked when the WebSocket was let in.

        Args:
            scope: the scope as it is now.
            terms: the guards.
            peer: address of the other end of the TCP connection, if the wire knows it.
            address: the address under which it is counted.

        Returns:
            A close to refuse it, a client id, or ``None`` for a plain yes.
        """
        if not self._origin_allowed(scope, terms, peer):
            return self._refuse("allowed_origins", ORIGIN_REFUSED, scope, address)
        answer = await self._ask(scope, terms)
        return self._refuse("authorize", answer, scope, address) if isinstance(answer, Close) else answer

    async def _ask(self, scope: Scope, terms: Terms) -> Close | str | None:
        """The answer of all guards together; two guards that give different names refuse."""
        named: str | None = None
        for authorize in terms.authorize:
            answer = await self._authorize(scope, terms.config, authorize)
            if isinstance(answer, Close):
                return answer
            if named is not None and answer not in (None, named):
                return UNAUTHORIZED
            named = named or answer
        return named

    def _count_in(
        self, scope: Scope, config: WebSocketConfig, address: str | None, client_id: str | None
    ) -> Guest | Close:
        if self._hub.is_draining:
            # The guards may have taken long.
            return DRAINING
        replacing = False
        if client_id is not None:
            refused = self._hub.clients.refusal_of(client_id, config)
            if refused is not None:
                return self._refuse(limit_of(refused), refused, scope, address)
            replacing = self._hub.clients.may_replace(client_id, config)
        refusal = self._hub.admission.admit(address, replacing=replacing)
        if refusal is None:
            return Guest(address, client_id)
        limit = "max_connections" if refusal is CONNECTION_LIMIT else "max_connections_per_address"
        return self._refuse(limit, refusal, scope, address)

    def _surely_full(self, config: WebSocketConfig) -> bool:
        """Whether ``authorize`` cannot let anybody in: all places are taken, and no name may replace another."""
        return self._hub.admission.full and config.duplicate_client != "replace"

    def _address_full(self, address: str | None) -> bool:
        """Whether the open connections and the running ``authorize`` calls of an address use up its limit."""
        limit = self._hub.config.max_connections_per_address
        if limit is None or address is None:
            return False
        return self._hub.admission.count_of(address) + self._authorizing.count_of(address) >= limit

    async def _authorize(self, scope: Scope, config: WebSocketConfig, authorize: Authorize) -> Close | str | None:
        """Ask one guard: a close, a client id, or ``None`` for a plain yes."""
        try:
            with anyio.move_on_after(config.accept_timeout) as patience:
                answer = verdict(await awaited(call(authorize, scope)))
        except Exception:
            # A guard that fails must let nobody in.
            path = scope.get("path", "")
            if self._hub.may_tell("authorize failed"):
                line = "! authorize failed for %s, the connection is refused"
                logger.exception(line, as_in_url(path), extra={"path": cut(path)})
            return UNAUTHORIZED
        if patience.cancelled_caught:
            return NOT_ACCEPTED
        return answer

    def _origin_allowed(self, scope: Scope, terms: Terms, peer: str | None) -> bool:
        origin = header(scope, b"origin")
        if origin is None:
            return True
        hosts = self._address.forwarded_host(scope, peer)
        policies = (self._policy(allowed) for allowed in terms.origins)
        policy = next((each for each in policies if not each.check(origin, hosts)), None)
        if policy is None:
            return True
        self._hub.warn_once(
            f"origin {origin[:LONGEST_LOGGED]}",
            "! origin %r refused on host %r; to allow it: %s",
            origin[:LONGEST_LOGGED],
            ", ".join(hosts)[:LONGEST_LOGGED],
            policy.hint(origin) if len(origin) <= LONGEST_LOGGED else 'name it in "allowed_origins"',
            by_peers=True,
        )
        return False

    def _policy(self, allowed: str | tuple[str, ...]) -> OriginPolicy:
        policy = self._origins.get(allowed)
        if policy is None:
            policy = self._origins[allowed] = OriginPolicy(allowed)
        return policy

    def _address_of(self, scope: Scope) -> str | None:
        config = self._hub.config
        if config.client_address is not None:
            return self._told_address(scope, config.client_address)
        address = self._address.of(scope)
        if address is None and config.max_connections_per_address is not None:
            self._hub.warn_once(
                "no address",
                "! max_connections_per_address cannot act: the server tells no address, as behind a Unix socket; "
                "have the proxy set X-Forwarded-For to the client alone and set "
                'trusted_proxies=["*"], or set client_address',
            )
        if config.max_connections_per_address is not None and self._trusts_nobody and self._address.is_private(address):
            self._hub.warn_once(
                "private address",
                "! max_connections_per_address counts %s, a private address, and no proxy is trusted: behind a "
                "proxy all clients share its address; set trusted_proxies",
                address,
            )
        return address

    def _told_address(self, scope: Scope, client_address: ClientAddressOf) -> str | None:
        """The address that ``client_address`` gives; if that fails, the one that ``trusted_proxies`` gives."""
        try:
            address = call(client_address, scope)
            if address is None or isinstance(address, str):
                return address
            raise TypeError(f"client_address gave {shown(address)}, which is neither a text nor None")
        except Exception:
            path = scope.get("path", "")
            if self._hub.may_tell("client_address failed"):
                logger.exception("! client_address failed for %s", as_in_url(path), extra={"path": cut(path)})
            return self._address.of(scope)

    def _refuse(self, limit: str, close: Close, scope: Scope, address: str | None) -> Close:
        path = scope.get("path", "")
        self._hub.emit(LimitHit(limit, address, path))
        # In this order, because a line that nobody would see must not use up the budget.
        if is_heard(logger, logging.INFO) and self._hub.may_tell(f"refused by {limit}", logging.INFO):
            who = f"{as_in_url(path)} {as_in_url(address)}"
            told = {"limit": limit, "path": cut(path), "address": address and cut(address)}
            logger.info("x refused %s: %s by %s", who, quoted(close.reason), limit, extra=told)
        return close


def verdict(answer: object) -> Close | str | None:
    """Translate an answer of ``authorize``."""
    if isinstance(answer, Close):
        return answer.refusing()
    if isinstance(answer, str) and answer:
        return answer
    return None if answer is True else UNAUTHORIZED


def header(scope: Scope, name: bytes) -> str | None:
    """Value of the first header with this lower-case name."""
    for key, value in scope.get("headers", ()):
        if key.lower() == name:
            return str(value.decode("latin-1"))
    return None
