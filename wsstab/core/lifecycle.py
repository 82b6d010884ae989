"""Lifecycle: the legal transitions of a connection, as a table.

The rules:

* Inbound and outbound each have a state, and either may be behind the other: a connection may be
  accepted before the handler took ``websocket.connect``, or closing while messages still arrive.
* A transition belongs to one direction and moves it along its row of the table. A transition that
  is not in the row is illegal and changes nothing.
* One direction moves the other in a single case: when the peer has left (``ENDED``), outbound
  becomes ``CLOSED``, because nobody receives. The reverse does not hold: when the carrier is gone
  (``CLOSED``), the handler still gets its one disconnect, after the messages read before it.
* ``ENDED`` and ``CLOSED`` are final. Only ``CLOSED`` may be fired again, because several parties may
  notice that the carrier is gone; a disconnect is delivered once.

Does not send, does not receive, does not log. Modelled on h11's ``_state.py``; the states are
those of the ASGI specification's WebSocket scope and of RFC 6455 section 7.
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["INBOUND", "OUTBOUND", "InboundState", "Lifecycle", "OutboundState", "Transition"]


class InboundState(Enum):
    """State of the direction from the peer to us."""

    # Identity is enough, because members are singletons, and Enum computes its own hash in Python from the name.
    __hash__ = object.__hash__

    CONNECTING = auto()
    """The handler has not taken ``websocket.connect``."""
    OPEN = auto()
    """Messages may arrive."""
    ENDED = auto()
    """The disconnect was delivered, or is known."""


class OutboundState(Enum):
    """State of the direction from us to the peer."""

    __hash__ = object.__hash__

    CONNECTING = auto()
    """Neither accepted nor refused."""
    OPEN = auto()
    """Accepted."""
    DENYING = auto()
    """Refused by an HTTP response that has begun."""
    CLOSING = auto()
    """The close, or the refusal before accept, was sent and is being flushed."""
    CLOSED = auto()
    """Nothing can be sent any more."""


class Transition(Enum):
    """A step in the life of a connection."""

    __hash__ = object.__hash__

    CONNECT = auto()
    """The handler took ``websocket.connect``."""
    DISCONNECT = auto()
    """The peer has left: the disconnect was delivered, or is known."""
    ACCEPT = auto()
    """``websocket.accept`` was sent."""
    DENY = auto()
    """An HTTP response was begun in place of accepting."""
    DENIED = auto()
    """That response is complete."""
    CLOSE = auto()
    """``websocket.close`` was sent; before accept, this refuses the handshake."""
    CLOSED = auto()
    """The carrier is gone: flushed and closed, or aborted."""


INBOUND: dict[InboundState, dict[Transition, InboundState]] = {
    InboundState.CONNECTING: {Transition.CONNECT: InboundState.OPEN, Transition.DISCONNECT: InboundState.ENDED},
    InboundState.OPEN: {Transition.DISCONNECT: InboundState.ENDED},
    InboundState.ENDED: {},
}
"""The state after a transition, by the state before it."""

OUTBOUND: dict[OutboundState, dict[Transition, OutboundState]] = {
    OutboundState.CONNECTING: {
        Transition.ACCEPT: OutboundState.OPEN,
        Transition.DENY: OutboundState.DENYING,
        Transition.CLOSE: OutboundState.CLOSING,
        Transition.CLOSED: OutboundState.CLOSED,
    },
    OutboundState.OPEN: {Transition.CLOSE: OutboundState.CLOSING, Transition.CLOSED: OutboundState.CLOSED},
    OutboundState.DENYING: {Transition.DENIED: OutboundState.CLOSED, Transition.CLOSED: OutboundState.CLOSED},
    OutboundState.CLOSING: {Transition.CLOSED: OutboundState.CLOSED},
    OutboundState.CLOSED: {Transition.CLOSED: OutboundState.CLOSED},
}
"""The state after a transition, by the state before it."""


class Lifecycle:
    """The state of one connection: ``inbound`` and ``outbound``, both ``CONNECTING`` at first."""

    __slots__ = ("inbound", "outbound")

    def __init__(self) -> None:
        self.inbound = InboundState.CONNECTING
        self.outbound = OutboundState.CONNECTING

    def __repr__(self) -> str:
        return f"<Lifecycle [inbound {self.inbound.name}, outbound {self.outbound.name}]>"

    def try_fire(self, transition: Transition) -> bool:
        """Move along the table if ``transition`` is legal now, and return whether it was."""
        inbound, outbound = INBOUND[self.inbound].get(transition), OUTBOUND[self.outbound].get(transition)
        # No transition is legal in both directions at a time, as the tables show.
        if inbound is not None:
            self.inbound = inbound
        elif outbound is not None:
            self.outbound = outbound
        else:
            return False
        # Nobody receives any more, so nothing can be sent. The reverse does not hold; see the rules above.
        if self.inbound is InboundState.ENDED:
            self.outbound = OutboundState.CLOSED
        return True

    def fire(self, transition: Transition) -> None:
        """Move along the table; an illegal transition raises ``RuntimeError`` and changes nothing."""
        if not self.try_fire(transition):
            raise RuntimeError(f"{transition.name} is illegal in {self!r}")
