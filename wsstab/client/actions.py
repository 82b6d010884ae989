"""Actions: what the client's machine asks of whoever runs it, and what the application is told.

The machine returns them as a list, to be carried out in that order. What concerns a carrier comes first. When the
application is told something, all of its counters have moved on: it may throw, send or close from within.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from ..core.protocol import Outcome

__all__ = [
    "Action",
    "CloseCarrier",
    "Closed",
    "Connect",
    "Deliver",
    "Detached",
    "Full",
    "Gap",
    "Lost",
    "Message",
    "Opened",
    "Plain",
    "Resumed",
    "Room",
    "Send",
]

Message: TypeAlias = str | bytes
"""A text or binary message."""


# What is done to a carrier.


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a carrier.

    Args:
        attempt: its number, with which the machine is told of it.
        subprotocols: what to offer in ``Sec-WebSocket-Protocol``, in this order. One of them holds secrets, so the
            representation leaves them out.
    """

    attempt: int
    subprotocols: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message on a carrier.

    Args:
        attempt: number of the carrier.
        message: the message as it travels.
    """

    attempt: int
    message: Message


@dataclass(frozen=True, slots=True)
class CloseCarrier:
    """Close a carrier, behind what was sent on it.

    But for the application's close, nobody waits for the answer: the machine hears no more of this carrier.

    Args:
        attempt: number of the carrier.
        code: close code; ``None`` for a close without one, which lets go of a carrier and ends no session. After the
            application's close it only says that the answer took too long.
        reason: at most 123 bytes of UTF-8.
    """

    attempt: int
    code: int | None = None
    reason: str = ""


# What the application is told.


@dataclass(frozen=True, slots=True)
class Opened:
    """A life has begun: a new handler runs on the server.

    Args:
        protocol: the subprotocol that it selected; ``None`` for none.
        why: why it is new although the client asked for its session; ``None`` if it did not.
    """

    protocol: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """The session goes on, on another carrier.

    Args:
        after: seconds without a carrier.
        replayed: messages that were sent again.
        outcome: whether the same handler goes on (``RESUMED``), or a new one on another node (``HANDOVER``).
    """

    after: float
    replayed: int
    outcome: Outcome = Outcome.RESUMED


@dataclass(frozen=True, slots=True)
class Plain:
    """The server does not speak wsstab.v1: until this carrier ends, it is an ordinary WebSocket.

    Args:
        protocol: the subprotocol of the application that was selected; ``None`` for none.
    """

    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Deliver:
    """A message of the server's application.

    Args:
        message: the message.
    """

    message: Message


@dataclass(frozen=True, slots=True)
class Gap:
    """The server's policy has dropped messages, which came before the next one that is delivered.

    Args:
        lost: how many, beside those that were told before.
    """

    lost: int


@dataclass(frozen=True, slots=True)
class Detached:
    """The carrier has ended; the machine asks for another one when it is time.

    Args:
        code: the close code; ``None`` for none.
    """

    code: int | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """A life has ended, and it is not known whether the server's application has these messages.

    Args:
        messages: what was sent and not acknowledged, in order.
    """

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Full:
    """The message was not taken, because too much is unacknowledged. `Room` follows, unless it ends before."""


@dataclass(frozen=True, slots=True)
class Room:
    """Something was acknowledged: what was not taken may be tried again."""


@dataclass(frozen=True, slots=True)
class Closed:
    """It is all over; nothing follows.

    Args:
        code: close code.
        reason: its reason.
    """

    code: int
    reason: str = ""


Action: TypeAlias = (
    Connect | Send | CloseCarrier | Opened | Resumed | Plain | Deliver | Gap | Detached | Lost | Full | Room | Closed
)
