"""Drives a client's machine by hand: the server's part, and a clock that stands still unless it is told."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

from wsstab.client.actions import Action, Closed, Connect, Message, Send
from wsstab.client.machine import ClientMachine
from wsstab.core.protocol import SUBPROTOCOL, Control, Hello, Offer, Outcome, is_control, negotiate

__all__ = ["HELLO", "Driver", "attached", "greeting", "name_of", "only", "plain"]

HELLO = Hello(
    session="session",
    outcome=Outcome.FRESH,
    received=0,
    lost=0,
    ping=20_000,
    timeout=10_000,
    window=120_000,
    ack=(64, 65536),
    max=None,
    protocol="chat",
)

A = TypeVar("A")


def name_of(number: int) -> str:
    """The name that a driven client makes as its number-th, from 1."""
    return f"{number:022}"


def only(kind: type[A], actions: list[Action]) -> A:
    """The one action of this kind among the actions."""
    (found,) = (action for action in actions if isinstance(action, kind))
    return found


class Driver:
    """A client, the server that it talks to, and their clock.

    Args:
        chance: what is drawn each time, 0 to 1.
        options: arguments of the machine.

    Attributes:
        now: seconds.
        machine: the client's machine.
    """

    def __init__(self, chance: float = 1.0, **options: Any) -> None:
        names = count(1)
        self.now = 100.0
        self.machine = ClientMachine(lambda: name_of(next(names)), lambda: chance, **options)

    @property
    def due(self) -> float | None:
        """Seconds until the machine's deadline."""
        return None if self.machine.deadline is None else round(self.machine.deadline - self.now, 6)

    # The application.

    def connect(self) -> Offer | None:
        """Begin an attempt and return its offer; ``None`` for that of a plain client."""
        return self.offer_in(self.machine.connect(self.now))

    def send(self, *messages: Message) -> list[Action]:
        """Send messages."""
        return [action for message in messages for action in self.machine.send(message, self.now)]

    def close(self, code: int = 1000, reason: str = "") -> list[Action]:
        """Close."""
        return self.machine.close(self.now, code, reason)

    def wake(self) -> list[Action]:
        """Wake up."""
        return self.machine.wake(self.now)

    # The clock.

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass, and tell the machine at the end of it."""
        self.now += seconds
        return self.machine.tick(self.now)

    def come_back(self) -> Offer | None:
        """Wait for the next attempt, and return its offer."""
        assert self.due is not None
        return self.offer_in(self.wait(max(0.0, self.due)))

    # The server.

    def open(self, subprotocol: str | None = SUBPROTOCOL, attempt: int | None = None) -> list[Action]:
        """The handshake is complete."""
        return self.machine.opened(self._attempt(attempt), subprotocol, self.now)

    def hello(self, **changes: Any) -> list[Action]:
        """Say hello."""
        return self.say(replace(HELLO, **changes))

    def say(self, *messages: Control | Message, attempt: int | None = None) -> list[Action]:
        """Send messages to the client."""
        number = self._attempt(attempt)
        travelling = [each if isinstance(each, str | bytes) else str(each) for each in messages]
        return [action for each in travelling for action in self.machine.heard(number, each, self.now)]

    def end(
        self, code: int | None = 1006, reason: str = "", clean: bool = False, attempt: int | None = None
    ) -> list[Action]:
        """The carrier ends."""
        return self.machine.ended(self._attempt(attempt), code, reason, clean, self.now)

    def answer(self, code: int | None = 1000) -> list[Action]:
        """Answer the client's close."""
        return self.end(code, clean=True)

    def resume(self, **changes: Any) -> list[Action]:
        """Lose the carrier, take the client back, and return what it does at hello."""
        self.end()
        self.come_back()
        self.open()
        return self.hello(**{"outcome": Outcome.RESUMED, **changes})

    def _attempt(self, attempt: int | None) -> int:
        return self.machine.attempt if attempt is None else attempt

    # What was done.

    @staticmethod
    def offer_in(actions: list[Action]) -> Offer | None:
        """The offer of the one attempt that is among the actions."""
        return negotiate(only(Connect, actions).subprotocols)[1]

    @staticmethod
    def sent(actions: list[Action]) -> list[Message]:
        """What is sent."""
        return [action.message for action in actions if isinstance(action, Send)]

    @classmethod
    def data(cls, actions: list[Action]) -> list[Message]:
        """What is sent and is data."""
        return [each for each in cls.sent(actions) if isinstance(each, bytes) or not is_control(each)]

    @staticmethod
    def told(actions: list[Action]) -> list[Action]:
        """What the application is told."""
        return [action for action in actions if type(action).__name__ not in ("Connect", "Send", "CloseCarrier")]

    @classmethod
    def closed(cls, actions: list[Action]) -> Closed | None:
        """How it ended, if it did."""
        return next((action for action in actions if isinstance(action, Closed)), None)


def greeting(**options: Any) -> Driver:
    """A client that waits for hello."""
    driver = Driver(**options)
    driver.connect()
    driver.open()
    return driver


def attached(hello: dict[str, Any] | None = None, **options: Any) -> Driver:
    """A client that is attached."""
    driver = greeting(**options)
    driver.hello(**(hello or {}))
    return driver


def plain(**options: Any) -> Driver:
    """A client of a server that does not speak wsstab.v1."""
    driver = Driver(**options)
    driver.connect()
    driver.open(None)
    return driver
