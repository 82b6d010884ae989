"""Client ids: whom a name means, who may have it, and who must go for that.

Identity is the connection, not the name: in a handler its own name means its own connection, open
or not, so that a late goodbye harms nobody who has taken the name since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..close import CLIENT_LIMIT, DUPLICATE_CLIENT, Close
from ..connection import Peer, current_peer
from ..core.memory import Ledger
from ..core.registry import Registry
from ..errors import ConnectionLimitExceededError, ConnectionNotFoundError, WebSocketStabilizerError
from ..events import ConnectionIdentified, LimitHit
from .eviction import Evictor
from .rooms import Rooms

if TYPE_CHECKING:
    from ..config import WebSocketConfig
    from ..events import Event

__all__ = ["Clients", "limit_of"]


class Clients:
    """The names of a manager's connections.

    Args:
        owner: the hub.
        registry: who holds which name.
        ledger: where memory is counted, by age of the name too.
        rooms: whoever has a name gets what is said to all.
        evictor: makes room for the metadata that comes with a name.
        emit: where its events go.
    """

    def __init__(
        self,
        owner: object,
        registry: Registry[Peer],
        ledger: Ledger[Peer],
        rooms: Rooms,
        evictor: Evictor,
        emit: Callable[[Event], None],
    ) -> None:
        self._owner = owner
        self._registry = registry
        self._ledger = ledger
        self._rooms = rooms
        self._evictor = evictor
        self._emit = emit
        self._expected: dict[Peer, str] = {}
        self._expected_names: Counter[str] = Counter()
        self._leaving: Counter[str] = Counter()

    def expect(self, peer: Peer, client_id: str) -> None:
        """Its handshake is not complete; when it is, it will have this name."""
        self.expect_no_more(peer)
        self._expected[peer] = client_id
        self._expected_names[client_id] += 1

    def expect_no_more(self, peer: Peer) -> None:
        """Its handshake is complete, or will never be."""
        client_id = self._expected.pop(peer, None)
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

    def promise(self, peer: Peer, client_id: str) -> Close | None:
        """Give a connection that was let in a name, for accept; or tell of the limit that it hits, and say why not."""
        refusal = self.refusal_of(client_id, peer.config)
        if refusal is not None:
            self._emit(LimitHit(limit_of(refusal), peer.address, peer.path))
            return refusal
        peer.chosen_id = client_id
        # Its call may have ended while it was asked for the name.
        if peer.counted:
            self.expect(peer, client_id)
        return None

    def take(self, peer: Peer, client_id: str, metadata: dict[str, Any] | None = None) -> list[Peer]:
        """Give a peer this name, now or when it is accepted.

        Args:
            peer: the peer.
            client_id: the name.
            metadata: to keep with it; ``None`` to leave what there is.

        Returns:
            Those that it replaces, which begin to close.

        Raises:
            ConnectionLimitExceededError: it may not have the name.
            MemoryLimitExceededError: no eviction makes room for the metadata.
        """
        others = self.others(peer, client_id)
        if metadata is not None:
            self._evictor.keep_metadata(peer, metadata)
        if peer.is_awaited:
            # Whoever holds the name keeps it until the handshake is complete, which it may never be.
            peer.chosen_id = client_id
            return []
        for other in others:
            peer.identified = min(peer.identified, other.identified)
            other.closing.begin(DUPLICATE_CLIENT)
        self.identify(peer, client_id)
        return others

    def opened(self, peer: Peer) -> None:
        """Its handshake is complete: give it the name that was chosen for it."""
        self.expect_no_more(peer)
        client_id, peer.chosen_id = peer.chosen_id, None
        if client_id is None or peer.closing.close is not None:
            return
        try:
            self.take(peer, client_id)
        except WebSocketStabilizerError as error:
            # It was free when it was chosen, but another may have been faster.
            peer.closing.begin(error.close)

    def identify(self, peer: Peer, client_id: str) -> None:
        """Put a peer under this name."""
        previous, peer.named = peer.client_id, True
        self._registry.identify(peer, client_id)
        self._ledger.rekey(peer)
        self._rooms.listen(peer)
        if previous != client_id:
            self._emit(ConnectionIdentified(peer.id, client_id, previous))

    def own(self, client_id: str) -> Peer | None:
        """The connection of the handler that runs this code, if this is its name, open or not."""
        own = current_peer.get()
        if own is None or client_id not in (own.client_id, own.chosen_id) or own.owner is not self._owner:
            return None
        return own

    def addressed(self, client_id: str) -> tuple[Peer, ...]:
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

    def others(self, peer: Peer, client_id: str) -> list[Peer]:
        """Who must go for ``peer`` to have this name.

        Raises:
            ConnectionLimitExceededError: it may not have it.
        """
        others = [other for other in self._registry.find_all(client_id) if other is not peer]
        if not others or peer.config.duplicate_client == "replace":
            return others
        if peer.config.duplicate_client == "reject":
            self._emit(LimitHit("duplicate_client", peer.address, peer.path))
            raise ConnectionLimitExceededError(None, DUPLICATE_CLIENT.because("client id is taken"))
        limit = peer.config.max_connections_per_client
        if limit is not None and len(others) >= limit:
            self._emit(LimitHit("max_connections_per_client", peer.address, peer.path))
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
