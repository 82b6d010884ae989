"""Hostile peers: what a client of wsstab.v1 may send that no client of ours sends."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hypothesis import strategies as st

from wsstab.core.frames import Block, Outgoing
from wsstab.core.protocol import ESCAPE, Hello, Outcome, ViolationError, negotiate
from wsstab.core.queue import OutboundQueue
from wsstab.core.session import FloodError, Refusal, Session
from wsstab.hub.sessions import Sessions
from wsstab.types import Event
from wsstab.wires.base import Wire
from wsstab.wires.session import SessionWire

__all__ = ["INPUTS", "Target"]

WINDOW = 8
HELLO = Hello("s1", Outcome.FRESH, 0, 0, 25_000, 20_000, 120_000, (2, 250), None)
NAMES = ["s1", "n" * 22, "s2", "x" * 22, "", "s" * 49]

values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-2, 20) | st.integers() | st.text(max_size=6),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=5,
)
controls = st.builds(
    lambda kind, fields: ESCAPE + json.dumps({"t": kind, **fields}),
    st.sampled_from(["ack", "ping", "pong", "hello", "gap", "bye", "x"]) | values,
    st.dictionaries(st.sampled_from(["h", "lost", "session", "t"]), st.integers(-1, WINDOW + 2) | values),
)
messages = (
    controls
    | st.text(max_size=20).map(lambda text: ESCAPE + text)
    | st.text(ESCAPE + '{"t:ack,h1}', max_size=20)
    | st.binary(max_size=20)
)
offers = st.builds(
    lambda kind, parts: ".".join(["wsstab", kind, *parts]),
    st.sampled_from(["new", "resume", "v1", "v2", "x"]),
    st.lists(st.sampled_from(NAMES) | st.integers(-1, 20).map(str) | st.text(max_size=5), max_size=5),
)
INPUTS = st.tuples(
    st.lists(st.lists(offers | st.just("wsstab.v1") | st.text(max_size=10), max_size=4), max_size=3),
    st.lists(messages, max_size=8),
)
"""Handshakes, and messages on one carrier."""


class Sink(Wire):
    """The wire of a carrier that reads nothing.

    Attributes:
        written: messages that were written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def write(self, block: Block) -> None:
        self.written += block.count


@dataclass
class Handed:
    """Counts what was handed to carriers, as a sender does."""

    messages: int = 0
    bytes: int = 0


class Target:
    """A session with a full window, and its carrier."""

    def __init__(self) -> None:
        self.queue: OutboundQueue[Outgoing] = OutboundQueue(None, WINDOW, "drop_oldest")
        self.session = Session("s1", "n" * 22, 1, Handed(), self.queue, max_messages=WINDOW, max_bytes=1000)
        self.wire = SessionWire(self.session)
        self.sessions: Sessions[Target] = Sessions(2)
        self.sessions.add(self)
        for number in range(WINDOW * 2):
            self.queue.put(Outgoing(f"{number}"))
        self.carrier = Sink()
        self.wire.attach(self.carrier, 0, HELLO)

    def attack(self, handshakes: list[list[str]], hostile: list[str | bytes]) -> None:
        """Let it see all of that, and check that it stays what it is.

        Raises:
            AssertionError: something grew beyond its bound.
        """
        for offered in handshakes:
            application, offer = negotiate(offered)
            assert not any(token == "wsstab.v1" for token in application)
            if offer is not None:
                found = self.sessions.find(offer, 0.0)
                assert found is None or found is self or isinstance(found, Refusal)
        for message in hostile:
            kind = "bytes" if isinstance(message, bytes) else "text"
            event: Event = {"type": "websocket.receive", kind: message}
            try:
                self.wire.hear(event, 0.0)
            except (ViolationError, FloodError):
                break
        kept = self.session._handed.messages - self.session.unacknowledged.messages
        assert 0 <= kept <= WINDOW
        assert self.session.received <= len(hostile)
        # Hello, the messages of the session, and one answer to each that arrived.
        assert self.carrier.written <= 1 + 2 * WINDOW + 2 * len(hostile)
