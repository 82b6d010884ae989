"""The second look: whether the endpoint that is about to accept has the guards that the door has asked.

The door decides by what comes in. Between it and the endpoint somebody may rewrite the path, and another stabilizer may
stand there with guards of its own. What has not been asked is asked before the accept, and a refusal is a refusal.
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
    """Of one WebSocket.

    Args:
        peer: its connection.
        passed: the guards that have let it in.
    """

    __slots__ = ("_connection", "_entrances", "_noted", "_passed")

    def __init__(self, peer: Peer, passed: Terms) -> None:
        self._connection = peer
        self._passed = passed
        self._entrances: list[tuple[Entrance, Door]] = []
        self._noted: Overrides = ()

    def add(self, entrance: Entrance, door: Door) -> None:
        """A stabilizer that it has come by."""
        self._entrances.append((entrance, door))

    def note(self, overrides: Overrides) -> None:
        """An endpoint with these is about to run."""
        self._noted += tuple(each for each in overrides if each not in self._noted)

    async def let_in(self, overrides: Overrides) -> bool:
        """Whether an endpoint with these may run; who may not has had an answer."""
        self.note(overrides)
        return await self.check()

    async def check(self) -> bool:
        """Whether all guards let it in, those of the endpoint too; who is refused has had an answer."""
        for entrance, door in self._entrances:
            terms = entrance.terms_behind(self._noted)
            if terms is not self._passed and not await self.passes(door, entrance.scope, terms):
                return False
        return self._connection.closing.close is None

    async def passes(self, door: Door, scope: Scope, terms: Terms) -> bool:
        """Whether these let it in as well; each guard is asked once.

        Args:
            door: whose they are.
            scope: as it is now.
            terms: what must hold.
        """
        missing = terms.without(self._passed)
        peer = self._connection
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
        """Give it this name, unless somebody has given it another; until it has accepted it may still get one."""
        peer = self._connection
        if client_id is None or client_id in (peer.client_id, peer.chosen_id):
            return None
        if peer.chosen_id is None and not peer.opened_at:
            return peer.owner.promise(peer, client_id)
        return UNAUTHORIZED


async def admits(peer: Peer, routing: Routing, door: Door, scope: Scope) -> bool:
    """Whether a stabilizer inside of the one that acts lets a WebSocket in as well; who is refused has had an answer.

    Args:
        peer: of the outer one.
        routing: of the inner one.
        door: of the inner one.
        scope: as the inner one gets it.
    """
    if routing.silent:
        return True
    look = peer.second_look
    if not isinstance(look, SecondLook):
        look = peer.second_look = SecondLook(peer, Terms.of(peer.config))
    entrance = Entrance(routing, scope, inner=True)
    look.add(entrance, door)
    return await look.passes(door, scope, entrance.terms())
