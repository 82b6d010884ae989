"""Second look: asks, before the accept, every guard of the endpoint that the door has not asked.

The door decides by the path of the request. Middleware behind it may rewrite that path, and an inner stabilizer may
have guards of its own, so the endpoint that runs can be another one than the door expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..close import UNAUTHORIZED, Close
from ..routes.routing import Entrance, Routing
from ..routes.terms import Terms
from ..types import Itself, Scope
from .door import Door

if TYPE_CHECKING:
    from ..config.marks import Overrides
    from ..connection import Peer

__all__ = ["SecondLook", "admits"]


class SecondLook(Itself):
    """The second look at one WebSocket.

    Args:
        peer: the peer to look at.
        passed: the guards that have let it in so far.
    """

    __slots__ = ("_entrances", "_noted", "_passed", "_peer")

    def __init__(self, peer: Peer, passed: Terms) -> None:
        self._peer = peer
        self._passed = passed
        self._entrances: list[tuple[Entrance, Door]] = []
        self._noted: Overrides = ()

    def add(self, entrance: Entrance, door: Door) -> None:
        """Note a stabilizer that the WebSocket has passed."""
        self._entrances.append((entrance, door))

    def note(self, overrides: Overrides) -> None:
        """Note that an endpoint with these Overrides is about to run."""
        self._noted += tuple(each for each in overrides if each not in self._noted)

    async def let_in(self, overrides: Overrides) -> bool:
        """Whether an endpoint with these Overrides may run; a peer that is refused has been answered."""
        self.note(overrides)
        return await self.check()

    async def check(self) -> bool:
        """Whether all guards let the peer in, those of the endpoint too; a peer that is refused has been answered."""
        for entrance, door in self._entrances:
            terms = entrance.terms_behind(self._noted)
            # The very terms that the door has asked are the common case, and need no comparison.
            if terms is not self._passed and not await self.passes(door, entrance.scope, terms):
                return False
        return self._peer.closing.close is None

    async def passes(self, door: Door, scope: Scope, terms: Terms) -> bool:
        """Whether these guards let the peer in as well; each guard is asked once.

        Args:
            door: the door of the stabilizer that has the guards.
            scope: the scope as it is now.
            terms: the guards.
        """
        missing = terms.without(self._passed)
        peer = self._peer
        if missing.origins or missing.authorize:
            answer = await door.ask_again(scope, missing, peer.wire.peer_address(), peer.address)
            refusal = answer if isinstance(answer, Close) else self._name(answer)
            if refusal is not None:
                peer.closing.begin(refusal)
                await peer.closing.latch.wait()
                return False
            self._passed = self._passed.joined(missing)
        return peer.closing.close is None

    def _name(self, client_id: str | None) -> Close | None:
        """Name the peer, or say why not: it has another name, or has been accepted without one."""
        peer = self._peer
        if client_id is None or client_id in (peer.client_id, peer.chosen_id):
            return None
        if peer.chosen_id is None and not peer.opened_at:
            return peer.owner.promise(peer, client_id)
        return UNAUTHORIZED


async def admits(peer: Peer, routing: Routing, door: Door, scope: Scope) -> bool:
    """Whether an inner stabilizer also lets a WebSocket in; a peer that is refused has been answered.

    Args:
        peer: the peer, which belongs to the outer stabilizer.
        routing: the routing of the inner stabilizer.
        door: the door of the inner stabilizer.
        scope: the scope as the inner stabilizer gets it.
    """
    if routing.silent:
        return True
    look = peer.second_look
    if not isinstance(look, SecondLook):
        look = peer.second_look = SecondLook(peer, Terms.of(peer.config))
    entrance = Entrance(routing, scope, inner=True)
    look.add(entrance, door)
    return await look.passes(door, scope, entrance.terms())
