"""Client ids: whom a name means, who may have it, and who must go for that.

Identity is the connection, not the name: in a handler its own name means its own connection, open
or not, so that a late goodbye harms nobody who has taken the name since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .close import CLIENT_LIMIT, DUPLICATE_CLIENT
from .connection import Connection, Owner, current_connection
from .core.registry import Registry
from .errors import ConnectionLimitExceededError, ConnectionNotFoundError
from .events import LimitHit

if TYPE_CHECKING:
    from .events import Event

__all__ = ["Clients"]


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

    def expect(self, connection: Connection, client_id: str) -> None:
        """Its handshake is not complete; when it is, it will have this name."""
        self._expected[connection] = client_id

    def expect_no_more(self, connection: Connection) -> None:
        """Its handshake is complete, or will never be."""
        self._expected.pop(connection, None)

    def expected(self, client_id: str) -> int:
        """How many handshakes are not complete that will have this name."""
        # Few are under way at a time.
        return sum(1 for name in self._expected.values() if name == client_id) if self._expected else 0

    def held(self, client_id: str) -> int:
        """How many open connections have this name."""
        return len(self._registry.find_all(client_id))

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
