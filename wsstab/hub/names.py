"""Client ids: whom a name means, who may have it, and who must go for that.

Identity is the connection, not the name: in a handler its own name means its own connection, open
or not, so that a late goodbye harms nobody who has taken the name since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..close import CLIENT_LIMIT, DUPLICATE_CLIENT, Close
from ..connection import Connection, Owner, current_connection
from ..core.registry import Registry
from ..errors import ConnectionLimitExceededError, ConnectionNotFoundError
from ..events import LimitHit

if TYPE_CHECKING:
    from ..config import WebSocketConfig
    from ..events import Event

__all__ = ["Clients", "limit_of"]


class Clients:
    """The names of a manager's connections.

    Args:
        owner: the manager.
        registry: who holds which name.
        emit: where its events go.
    """

    def __init__(self, owner: Owner, registry: Registry[Connection], emit: Callable[[Event], None]) -> None:
        self._owner = owner
        self._registry = registry
        self._emit = emit
        self._expected: dict[Connection, str] = {}
        self._expected_names: Counter[str] = Counter()
        self._leaving: Counter[str] = Counter()

    def expect(self, connection: Connection, client_id: str) -> None:
        """Its handshake is not complete; when it is, it will have this name."""
        self.expect_no_more(connection)
        self._expected[connection] = client_id
        self._expected_names[client_id] += 1

    def expect_no_more(self, connection: Connection) -> None:
        """Its handshake is complete, or will never be."""
        client_id = self._expected.pop(connection, None)
        if client_id is not None:
            forget_one(self._expected_names, client_id)

    def expected(self, client_id: str) -> int:
        """How many handshakes are not complete that will have this name."""
        return self._expected_names[client_id]

    def leaves(self, client_id: str) -> None:
        """One of this name is closing; it holds its place until its socket and its handler are gone."""
        self._leaving[client_id] += 1

    def has_left(self, client_id: str) -> None:
        """They are."""
        forget_one(self._leaving, client_id)

    def leaving(self, client_id: str) -> int:
        """How many of this name are closing."""
        return self._leaving[client_id]

    def held(self, client_id: str) -> int:
        """How many open connections have this name."""
        return len(self._registry.find_all(client_id))

    def refusal_of(self, client_id: str, config: WebSocketConfig) -> Close | None:
        """Why a WebSocket that has not been accepted may not have this name; ``None`` where it may.

        Args:
            client_id: the name.
            config: of its path.
        """
        held = self.held(client_id)
        if held and config.duplicate_client == "reject":
            return DUPLICATE_CLIENT.because("client id is taken")
        most = config.max_connections_per_client
        if most is not None and config.duplicate_client == "allow" and held + self.expected(client_id) >= most:
            return CLIENT_LIMIT
        return None

    def promise(self, connection: Connection, client_id: str) -> Close | None:
        """Give a connection that was let in a name, for accept; or tell of the limit that it hits, and say why not."""
        refusal = self.refusal_of(client_id, connection.config)
        if refusal is not None:
            self._emit(LimitHit(limit_of(refusal), connection.address, connection.path))
            return refusal
        connection.chosen_id = client_id
        # Its call may have ended while it was asked for the name.
        if connection.counted:
            self.expect(connection, client_id)
        return None

    def own(self, client_id: str) -> Connection | None:
        """The connection of the handler that runs this code, if this is its name, open or not."""
        own = current_connection.get()
        if own is None or client_id not in (own.client_id, own.chosen_id) or own.owner is not self._owner:
            return None
        return own

    def addressed(self, client_id: str) -> tuple[Connection, ...]:
        """Whom a name means: in a handler of that name its own connection, elsewhere all that hold it.

        A handler whose socket was replaced or has ended thereby does nothing to the one that took its place.

        Raises:
            ConnectionNotFoundError: nobody has this name.
        """
        own = self.own(client_id)
        if own is not None:
            return (own,)
        connections = self._registry.find_all(client_id)
        if not connections:
            raise ConnectionNotFoundError(client_id)
        return connections

    def others(self, connection: Connection, client_id: str) -> list[Connection]:
        """Who must go for ``connection`` to have this name.

        Raises:
            ConnectionLimitExceededError: it may not have it.
        """
        others = [other for other in self._registry.find_all(client_id) if other is not connection]
        if not others or connection.config.duplicate_client == "replace":
            return others
        if connection.config.duplicate_client == "reject":
            self._emit(LimitHit("duplicate_client", connection.address, connection.path))
            raise ConnectionLimitExceededError(None, DUPLICATE_CLIENT.because("client id is taken"))
        limit = connection.config.max_connections_per_client
        if limit is not None and len(others) >= limit:
            self._emit(LimitHit("max_connections_per_client", connection.address, connection.path))
            raise ConnectionLimitExceededError(limit, CLIENT_LIMIT)
        return []


def limit_of(refusal: Close) -> str:
    """The option by which a name was refused."""
    return "max_connections_per_client" if refusal is CLIENT_LIMIT else "duplicate_client"


def forget_one(counts: Counter[str], name: str) -> None:
    """Count one less, and keep no name of which there is none."""
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
