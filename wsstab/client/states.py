"""States of the client: the legal steps, as a table.

The rules:

* A carrier is there in all states but ``DETACHED`` and ``CLOSED``. There is never more than one.
* In ``GREETING`` nothing is sent: what a client says before hello would be counted in another session.
* Whatever ends a carrier leads through ``DETACHED``. What the end means is decided there, once: come back, or be over.
* A client that is about to close may be in any state: it comes back until its close was answered.
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["STATES", "ClientState", "ClientStep"]


class ClientState(Enum):
    """State of a client."""

    # Identity is enough, because members are singletons, and Enum computes its own hash in Python from the name.
    __hash__ = object.__hash__

    DETACHED = auto()
    """There is no carrier."""
    CONNECTING = auto()
    """A handshake is under way."""
    GREETING = auto()
    """The server has selected wsstab.v1 and has not yet said how the carrier begins."""
    ATTACHED = auto()
    """The session has a carrier."""
    PLAIN = auto()
    """The server does not speak wsstab.v1, and the carrier is an ordinary WebSocket."""
    CLOSING = auto()
    """The application's close was sent and is not yet answered."""
    CLOSED = auto()
    """It is all over."""


class ClientStep(Enum):
    """A step in the life of a client."""

    __hash__ = object.__hash__

    CONNECT = auto()
    """An attempt begins."""
    OPEN = auto()
    """The handshake is complete, and wsstab.v1 was selected."""
    OPEN_PLAIN = auto()
    """The handshake is complete, and wsstab.v1 was not selected."""
    HELLO = auto()
    """The server has said how the carrier begins."""
    CLOSE = auto()
    """The application's close is sent, behind all that it said."""
    LOSE = auto()
    """The carrier has ended, or was given up."""
    END = auto()
    """There will be no other carrier."""


STATES: dict[ClientState, dict[ClientStep, ClientState]] = {
    ClientState.DETACHED: {ClientStep.CONNECT: ClientState.CONNECTING, ClientStep.END: ClientState.CLOSED},
    ClientState.CONNECTING: {
        ClientStep.OPEN: ClientState.GREETING,
        ClientStep.OPEN_PLAIN: ClientState.PLAIN,
        ClientStep.LOSE: ClientState.DETACHED,
    },
    ClientState.GREETING: {ClientStep.HELLO: ClientState.ATTACHED, ClientStep.LOSE: ClientState.DETACHED},
    ClientState.ATTACHED: {ClientStep.CLOSE: ClientState.CLOSING, ClientStep.LOSE: ClientState.DETACHED},
    ClientState.PLAIN: {ClientStep.CLOSE: ClientState.CLOSING, ClientStep.LOSE: ClientState.DETACHED},
    ClientState.CLOSING: {ClientStep.LOSE: ClientState.DETACHED},
    ClientState.CLOSED: {},
}
"""The state after a step, by the state before it. A step that is not in the row is illegal."""
