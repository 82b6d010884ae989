"""Life: what a client knows of its session, and what it counts.

A life lasts from a hello that says ``fresh`` until the client is told that the session is gone. Both sides count data
messages; no number travels with them. What has arrived is acknowledged after so many messages or bytes as the server
has asked for.

The client's counterpart of ``core/session.py``. Builds messages and does not send them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..core.protocol import Ack, Hello, Offer, Ping, Pong, ViolationError
from .actions import Message
from .outbox import Outbox, size_of

__all__ = ["Life"]


class Life:
    """The newest life of a client.

    Args:
        new_name: makes a name for a session, 22 characters of base64url that nobody can guess.
        outbox: what the application sends.

    Attributes:
        session: the server's name of the session; ``None`` if there is none. It is a secret.
        received: data messages that have arrived.
        lost: messages that policies of the server have dropped, as far as the client was told.
        ack: messages and bytes after which an acknowledgement is due, on both sides.
    """

    def __init__(self, new_name: Callable[[], str], outbox: Outbox) -> None:
        self._new_name = new_name
        self._outbox = outbox
        self.begin(None)

    def __repr__(self) -> str:
        return f"<Life [{self.received} received, {self._outbox.sent} sent]>"

    def begin(self, session: str | None) -> list[Message]:
        """Begin another life.

        Args:
            session: the server's name of it; ``None`` if it has none yet.

        Returns:
            What was sent in the last one and not acknowledged, in order.
        """
        self.session = session
        # It stays the same until a hello has come, so that a hello that is lost starts no second handler.
        self._next = self._new_name()
        self.received = self.lost = self._acknowledged = self._bytes_since_ack = 0
        self.ack = (sys.maxsize, sys.maxsize)
        return self._outbox.begin_anew()

    def offer(self, attempt: int, closing: bool) -> Offer:
        """What to offer for an attempt.

        Args:
            attempt: its number.
            closing: whether the application closes: then no other session begins in place of one that is gone.
        """
        begins = not closing or self.session is None
        return Offer(attempt, self._next if begins else None, self.session, self.received)

    def agrees(self, hello: Hello) -> bool:
        """Whether a hello speaks of this life, and not of another's, of which the server counts something else."""
        known = self._outbox.acknowledged <= hello.received <= self._outbox.sent
        return known and hello.session == self.session

    # What arrives.

    def hear_data(self, message: Message) -> bool:
        """Count a data message, and return whether an acknowledgement is due."""
        self.received += 1
        self._bytes_since_ack += size_of(message, "replace")
        messages, size = self.ack
        return self.received - self._acknowledged >= messages or self._bytes_since_ack >= size

    def hear_acknowledgement(self, received: int) -> bool:
        """The server has received so many data messages; whether that is news.

        Raises:
            ViolationError: so many were never sent.
        """
        if received > self._outbox.sent:
            raise ViolationError("acknowledgement of what was not sent")
        return self._outbox.acknowledge(received)

    def hear_lost(self, total: int | None) -> int:
        """The server has told how many messages were dropped in all; ``None`` if it does not know.

        Returns:
            How many that are beside those that it told before.
        """
        more = max(0, (total or 0) - self.lost)
        self.lost += more
        return more

    # What leaves. Each of these messages acknowledges all that has arrived.

    def acknowledgement(self) -> Ack:
        """What has arrived, as a message."""
        return Ack(self._acknowledge())

    def ping(self) -> Ping:
        """Ask whether the server is there."""
        return Ping(self._acknowledge())

    def pong(self) -> Pong:
        """The answer to a ping of the server."""
        return Pong(self._acknowledge())

    @property
    def acknowledgement_comes(self) -> bool:
        """Whether so much is unacknowledged that the server acknowledges it unasked."""
        messages, size = self.ack
        return len(self._outbox) >= messages or self._outbox.bytes >= size

    def _acknowledge(self) -> int:
        self._acknowledged, self._bytes_since_ack = self.received, 0
        return self.received
