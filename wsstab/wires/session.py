"""The wire of a session: it stays while the TCP connections beneath it come and go.

Above it stands a peer like any other. Its wire is not writable while there is no carrier, while a replay is under way,
and while the window is full. Beneath it is the wire of the newest carrier. In between are the counters of the session,
the messages that may have to be sent again, and the control messages of wsstab.v1.
"""

from __future__ import annotations

from ..core.frames import Block, Outgoing
from ..core.protocol import Ack, Hello, Ping, Pong, is_control, unescaped
from ..core.session import Session, SessionState
from ..types import Event
from .base import Wire
from .traits import ASGI, Traits

__all__ = ["SessionWire"]

PART = 65536
"""Bytes handed to a carrier at a time: a carrier that dies takes along what it has not sent."""
HEARD = b"-"
"""The payload of no ping: something else has arrived from the peer."""


class SessionWire(Wire):
    """How bytes reach a peer whose TCP connections come and go.

    Args:
        session: the machine of the session.

    Attributes:
        session: the machine of the session.
        carrier: the wire of the attached carrier; ``None`` while there is none.
    """

    __slots__ = ("_owed", "_pinged", "carrier", "session")

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.writable = False
        # Whoever stands above goes on in its own way; a session whose handler has ended stands alone.
        self.on_writable = self.pump
        self.carrier: Wire | None = None
        # One of each kind: a newer one says more, and a peer that reads nothing must not make it grow.
        self._owed: dict[type, Outgoing] = {}
        self._pinged: bytes | None = None

    @property
    def traits(self) -> Traits:  # type: ignore[override]
        """What the server of the attached carrier can do."""
        return ASGI if self.carrier is None else self.carrier.traits

    # Carriers.

    def attach(self, carrier: Wire, received: int, hello: Hello) -> None:
        """Begin with an accepted carrier: hello, then what has to be sent again, then what waits.

        Args:
            carrier: its wire.
            received: how many data messages the client has received.
            hello: the first message.
        """
        self.session.attach(received)
        self.carrier = carrier
        self.context = carrier.context
        carrier.on_writable = self._go_on
        carrier.on_blocked = self._look
        carrier.on_pong = self._native_pong
        self._owed = {Hello: Outgoing(str(hello))}
        self._pinged = None
        self._go_on()

    def detach_carrier(self) -> None:
        """The carrier is gone, or a newer one is about to be attached."""
        carrier, self.carrier = self.carrier, None
        self.session.detach()
        self._owed.clear()
        if carrier is not None:
            carrier.detach()
        self._look()

    # What the peer above wants to hear of is decided when it happens, and not when a carrier is attached.

    def _go_on(self) -> None:
        self.on_writable()

    def _native_pong(self, payload: bytes) -> None:
        self.on_pong(payload)

    # What arrives.

    def hear(self, event: Event, now: float, quiet: bool = False) -> Event | None:
        """Take an event of the carrier.

        Args:
            event: ``websocket.receive``.
            now: seconds.
            quiet: whether nothing has been sent for half of the heartbeat's interval.

        Returns:
            The event for the application; ``None`` for a control message.

        Raises:
            ViolationError: the peer breaks the protocol.
            FloodError: it sends too many control messages.
        """
        self.on_pong(HEARD)
        text = event.get("text")
        if text is not None and is_control(text):
            self._hear_control(text, now)
            return None
        payload = event.get("bytes") or b"" if text is None else text.encode("utf-8", "replace")
        ack = self.session.hear_data(len(payload), quiet)
        if ack is not None:
            self._owe(ack)
        if text is not None:
            event["text"] = unescaped(text)
        return event

    def _hear_control(self, text: str, now: float) -> None:
        message = self.session.hear_control(text, now)
        if isinstance(message, Ping):
            self._owe(self.session.pong())
        elif isinstance(message, Pong) and self._pinged is not None:
            pinged, self._pinged = self._pinged, None
            self.on_pong(pinged)
        # An acknowledgement may have made room in the window.
        self._go_on()

    # What leaves.

    def pump(self) -> None:
        """Hand to the carrier what it takes now: control messages, then what the session says, in parts."""
        self._pay()
        while (carrier := self._taking()) is not None and (messages := self.session.next(PART)):
            carrier.write(Block(messages))
        self._look()

    def _pay(self) -> None:
        """Hand to the carrier the control messages that are owed, if it takes anything."""
        if self._owed and (carrier := self._taking()) is not None:
            owed = list(self._owed.values())
            self._owed.clear()
            carrier.write(Block(owed))

    def _taking(self) -> Wire | None:
        """The carrier, if it takes messages now."""
        carrier = self.carrier
        return carrier if carrier is not None and carrier.writable and carrier.is_open() else None

    def write(self, block: Block) -> None:
        """Hand over new messages, which the caller has counted; they get their numbers now."""
        assert self.carrier is not None
        self.session.keep(block)
        self.carrier.write(block)
        self._look()

    def send_at_once(self, message: Outgoing) -> bool:
        """Hand over one new message, which the caller has counted. What becomes of the carrier harms nobody."""
        self.write(Block((message,)))
        return True

    def ping(self, payload: bytes) -> bool:
        """Ask by a control message, and by a WebSocket ping where the server has one, which measures the latency."""
        if self.carrier is None:
            return False
        if self._pinged is None:
            self._pinged = payload
            self._owe(self.session.ping())
        self.carrier.ping(payload)
        return True

    def _owe(self, message: Ack | Ping | Pong) -> None:
        if not self.session.said_goodbye:
            self._owed[type(message)] = Outgoing(str(message))
            self._pay()
            self._look()

    def _look(self) -> None:
        """Note whether a new message would be taken, and tell the peer when that ends."""
        writable = self._taking() is not None and self.session.has_room
        was, self.writable = self.writable, writable
        if was and not writable:
            self.on_blocked()

    # What the peer asks of its wire; while there is no carrier, nothing is buffered and nothing is paused.

    def is_open(self) -> bool:
        return self.session.state is not SessionState.OVER

    def buffered(self) -> int:
        return 0 if self.carrier is None else self.carrier.buffered()

    def reading_paused(self) -> bool:
        return self.carrier is not None and self.carrier.reading_paused()

    def peer_left(self) -> bool:
        return self.carrier is not None and self.carrier.peer_left()

    def partial(self) -> int:
        return 0 if self.carrier is None else self.carrier.partial()

    def unfinished(self) -> int:
        return 0 if self.carrier is None else self.carrier.unfinished()

    def server_closed(self) -> bool:
        return self.carrier is not None and self.carrier.server_closed()

    def abort(self) -> None:
        """End the TCP connection of the carrier; the session may go on."""
        if self.carrier is not None:
            self.carrier.abort()

    def abort_is_over(self) -> bool:
        return self.carrier is None or self.carrier.abort_is_over()
