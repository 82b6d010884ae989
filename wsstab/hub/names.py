"""Client ids: which peers a name addresses, who may take it, and whom it replaces.

The connection is the identity, not the name. Inside a handler its own client id always means its own connection, open
or not, so a late ``disconnect()`` cannot close another connection that has taken the name since.
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
        registry: the open peers, by name.
        ledger: keeps an order by the age of names.
        rooms: a peer with a name gets broadcasts without a room.
        evictor: makes room for the metadata that comes with a name.
        emit: receives the events.
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
        """Note the name that a peer will have once its handshake is complete."""
        self.expect_no_more(peer)
        self._expected[peer] = client_id
        self._expected_names[client_id] += 1

    def expect_no_more(self, peer: Peer) -> None:
        """The handshake of a peer is complete, or has failed: forget the name noted for it."""
        client_id = self._expected.pop(peer, None)
        if client_id is not None:
            forget_one(self._expected_names, client_id)

    def expected(self, client_id: str) -> int:
        """How many peers will have this name once their handshake is complete."""
        return self._expected_names[client_id]

    def leaves(self, client_id: str) -> None:
        """A peer of this name is closing; it keeps its place until its socket and its handler are gone."""
        self._leaving[client_id] += 1

    def has_left(self, client_id: str) -> None:
        """The socket and the handler of a closing peer are gone."""
        forget_one(self._leaving, client_id)

    def held(self, client_id: str) -> int:
        """How many open peers have this name."""
        return len(self._registry.find_all(client_id))

    def leaving(self, client_id: str) -> int:
        """How many peers of this name are closing."""
        return self._leaving[client_id]

    def may_replace(self, client_id: str, config: WebSocketConfig) -> bool:
        """Whether a new peer may take the place of one with this name, although all places are taken.

        Only one at a time: until the replaced peer has left, it and the new one both hold a place.

        Args:
            client_id: the name.
            config: the configuration of the new peer's path.
        """
        if config.duplicate_client != "replace" or self.expected(client_id) or self.leaving(client_id):
            return False
        return self.held(client_id) > 0

    def refusal_of(self, client_id: str, config: WebSocketConfig) -> Close | None:
        """Why a WebSocket that has not been accepted may not take this name; ``None`` if it may.

        Args:
            client_id: the name.
            config: the configuration of its path.
        """
        held = self.held(client_id)
        if held and config.duplicate_client == "reject":
            return DUPLICATE_CLIENT.because("client id is taken")
        most = config.max_connections_per_client
        if most is not None and config.duplicate_client == "allow" and held + self.expected(client_id) >= most:
            return CLIENT_LIMIT
        return None

    def promise(self, peer: Peer, client_id: str) -> Close | None:
        """Note a name that a peer takes at accept; if it may not, emit the limit and return the close."""
        refusal = self.refusal_of(client_id, peer.config)
        if refusal is not None:
            self._emit(LimitHit(limit_of(refusal), peer.address, peer.path))
            return refusal
        peer.chosen_id = client_id
        # The call may have ended while a guard was asked for the name.
        if peer.counted:
            self.expect(peer, client_id)
        return None

    def take(self, peer: Peer, client_id: str, metadata: dict[str, Any] | None = None) -> list[Peer]:
        """Give a peer this name, now or at accept.

        Args:
            peer: the peer.
            client_id: the name.
            metadata: replaces the metadata of the peer; ``None`` leaves it.

        Returns:
            The peers that it replaces; they begin to close.

        Raises:
            ConnectionLimitExceededError: the peer may not take the name.
            MemoryLimitExceededError: no eviction makes room for the metadata.
        """
        # This and the next step may raise, so they come before any other peer is closed.
        others = self.others(peer, client_id)
        if metadata is not None:
            self._evictor.keep_metadata(peer, metadata)
        if peer.is_awaited:
            # The present holder keeps the name for now: this handshake may never be completed.
            peer.chosen_id = client_id
            return []
        for other in others:
            peer.identified = min(peer.identified, other.identified)
            other.closing.begin(DUPLICATE_CLIENT)
        self.identify(peer, client_id)
        return others

    def opened(self, peer: Peer) -> None:
        """The handshake is complete: give the peer the name that was noted for it."""
        self.expect_no_more(peer)
        client_id, peer.chosen_id = peer.chosen_id, None
        if client_id is None or peer.closing.close is not None:
            return
        try:
            self.take(peer, client_id)
        except WebSocketStabilizerError as error:
            # The name was free when it was noted, but another peer may have taken it meanwhile.
            peer.closing.begin(error.close)

    def identify(self, peer: Peer, client_id: str) -> None:
        """List a peer under this name."""
        previous, peer.named = peer.client_id, True
        self._registry.identify(peer, client_id)
        self._ledger.rekey(peer)
        self._rooms.listen(peer)
        if previous != client_id:
            self._emit(ConnectionIdentified(peer.id, client_id, previous))

    def own(self, client_id: str) -> Peer | None:
        """The peer whose handler runs this code, open or not, if it has this name."""
        own = current_peer.get()
        if own is None or client_id not in (own.client_id, own.chosen_id) or own.owner is not self._owner:
            return None
        return own

    def addressed(self, client_id: str) -> tuple[Peer, ...]:
        """The peers that a name addresses: in a handler of that name its own peer, elsewhere all that hold it.

        A handler whose socket was replaced or has ended thereby does nothing to the one that took its place.

        Raises:
            ConnectionNotFoundError: nobody has this name.
        """
        own = self.own(client_id)
        if own is not None:
            return (own,)
        peers = self._registry.find_all(client_id)
        if not peers:
            raise ConnectionNotFoundError(client_id)
        return peers

    def others(self, peer: Peer, client_id: str) -> list[Peer]:
        """The peers that must go before ``peer`` can take this name.

        Raises:
            ConnectionLimitExceededError: it may not take the name.
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
    """Name of the option that refused a name."""
    return "max_connections_per_client" if refusal is CLIENT_LIMIT else "duplicate_client"


def forget_one(counts: Counter[str], name: str) -> None:
    """Count one less, and drop a name whose count reaches 0."""
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
