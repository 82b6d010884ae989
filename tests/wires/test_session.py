"""The wire of a session: what it does while carriers come and go beneath it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from wsstab.core.frames import Block, Outgoing
from wsstab.core.protocol import ESCAPE, Bye, Hello, Outcome, ViolationError
from wsstab.core.queue import OutboundQueue
from wsstab.core.session import Session, SessionState
from wsstab.types import Event
from wsstab.wires.base import Wire
from wsstab.wires.session import SessionWire
from wsstab.wires.traits import ASGI, TRAITS

HELLO = Hello("s1", Outcome.FRESH, 0, 0, 25_000, 20_000, 120_000, (2, 250), None)


@dataclass
class Handed:
    """Counts what was handed to carriers, as a sender does."""

    messages: int = 0
    bytes: int = 0


class RecordingWire(Wire):
    """The wire of one carrier."""

    traits = TRAITS["uvicorn websockets-sansio"]

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str | bytes] = []
        self.pings: list[bytes] = []
        self.aborted = False
        self.left = False

    def write(self, block: Block) -> None:
        assert self.writable
        self.sent += [message.data for message in block.messages]

    def is_open(self) -> bool:
        return not self.left

    def ping(self, payload: bytes) -> bool:
        self.pings.append(payload)
        return True

    def abort(self) -> None:
        self.aborted = True

    def block(self) -> None:
        """It takes no more."""
        self.writable = False
        self.on_blocked()

    def resume(self) -> None:
        """It takes more again."""
        self.writable = True
        self.on_writable()

    def buffered(self) -> int:
        return 1

    def reading_paused(self) -> bool:
        return True

    def peer_left(self) -> bool:
        return True

    def partial(self) -> int:
        return 2

    def unfinished(self) -> int:
        return 3

    def server_closed(self) -> bool:
        return True

    def abort_is_over(self) -> bool:
        return False


class Stand:
    """A session with its wire, and what the peer above is told."""

    def __init__(self, max_messages: int = 10) -> None:
        self.handed = Handed()
        self.queue: OutboundQueue[Outgoing] = OutboundQueue(None, 10, "drop_oldest")
        self.session = Session("s1", "n" * 22, 1, self.handed, self.queue, max_messages=max_messages, max_bytes=1000)
        self.wire = SessionWire(self.session)
        self.told: list[object] = []
        self.wire.on_blocked = lambda: self.told.append("blocked")
        self.wire.on_writable = self._go_on
        self.wire.on_pong = self.told.append

    def _go_on(self) -> None:
        self.wire.pump()
        if self.wire.writable:
            self.told.append("writable")

    def attach(self, received: int = 0) -> RecordingWire:
        """The next carrier is accepted."""
        if self.wire.carrier is not None:
            self.wire.detach_carrier()
        carrier = RecordingWire()
        self.wire.attach(carrier, received, replace(HELLO, received=self.session.received))
        return carrier

    def say(self, *texts: str) -> None:
        """The handler sends."""
        for text in texts:
            message = Outgoing(text)
            if self.queue or not self.wire.writable:
                self.queue.put(message)
            else:
                self.handed.messages += 1
                self.handed.bytes += message.size
                assert self.wire.send_at_once(message)


def text(data: str) -> Event:
    """A text message of the peer."""
    return {"type": "websocket.receive", "text": data}


def ack(received: int) -> Event:
    """An acknowledgement of the peer."""
    return text(f'{ESCAPE}{{"t":"ack","h":{received}}}')


def test_without_a_carrier_nothing_is_taken_and_nothing_buffered() -> None:
    """The peer above is neither paced for nor blamed."""
    wire = Stand().wire
    assert (wire.writable, wire.is_open(), wire.traits) == (False, True, ASGI)
    assert (wire.buffered(), wire.partial(), wire.unfinished()) == (0, 0, 0)
    assert not any([wire.reading_paused(), wire.peer_left(), wire.server_closed(), wire.ping(b"1234")])
    assert wire.abort_is_over()
    wire.abort()
    wire.pump()


def test_with_a_carrier_it_answers_as_the_carrier_does() -> None:
    """Its server decides what can be done."""
    stand = Stand()
    carrier = stand.attach()
    wire = stand.wire
    assert (wire.writable, wire.traits) == (True, RecordingWire.traits)
    assert (wire.buffered(), wire.partial(), wire.unfinished()) == (1, 2, 3)
    assert wire.reading_paused()
    assert wire.peer_left()
    assert wire.server_closed()
    assert not wire.abort_is_over()
    wire.abort()
    assert carrier.aborted


def test_hello_comes_first_then_the_replay_then_what_waits() -> None:
    """All in the step in which the carrier is attached."""
    stand = Stand()
    stand.say("a")
    carrier = stand.attach()
    assert carrier.sent == [str(HELLO), "a"]
    assert stand.told == ["writable"]
    stand.wire.detach_carrier()
    stand.say("b")
    assert stand.attach(0).sent == [str(HELLO), "a", "b"]
    assert stand.attach(1).sent == [str(HELLO), "b"]


def test_a_carrier_that_takes_no_more_is_waited_for() -> None:
    """A replay is fed as the wire drains."""
    stand = Stand()
    stand.attach()
    stand.say("a", "b")
    stand.wire.detach_carrier()
    carrier = RecordingWire()
    carrier.writable = False
    stand.wire.attach(carrier, 0, HELLO)
    assert (carrier.sent, stand.wire.writable) == ([], False)
    carrier.resume()
    assert (carrier.sent, stand.wire.writable) == ([str(HELLO), "a", "b"], True)
    carrier.block()
    assert (stand.wire.writable, stand.told[-1]) == (False, "blocked")


def test_a_full_window_blocks_and_an_acknowledgement_makes_room() -> None:
    """What has no number waits in the queue of the peer."""
    stand = Stand(max_messages=2)
    carrier = stand.attach()
    stand.told.clear()
    stand.say("a", "b", "c", "d", "e")
    assert (carrier.sent[1:], stand.told) == (["a", "b"], ["blocked"])
    assert stand.wire.hear(ack(1), 0.0) is None
    assert (carrier.sent[1:], stand.wire.writable) == (["a", "b", "c"], False)
    stand.wire.hear(ack(3), 0.0)
    assert (carrier.sent[1:], stand.wire.writable) == (["a", "b", "c", "d", "e"], False)
    stand.wire.hear(ack(5), 0.0)
    assert stand.wire.writable
    assert stand.told[-1] == "writable"


def test_data_is_counted_and_acknowledged() -> None:
    """An acknowledgement is due after two messages here."""
    stand = Stand()
    carrier = stand.attach()
    assert stand.wire.hear(text("a"), 0.0) == text("a")
    assert stand.wire.hear({"type": "websocket.receive", "bytes": b"b"}, 0.0) is not None
    assert carrier.sent[1:] == [f'{ESCAPE}{{"t":"ack","h":2}}']
    assert stand.wire.hear(text("c"), 0.0, quiet=True) is not None
    assert carrier.sent[2:] == [f'{ESCAPE}{{"t":"ack","h":3}}']


def test_an_escaped_text_arrives_as_it_was() -> None:
    """Only a text that begins with the escape has one more in front."""
    wire = Stand().wire
    wire.session.attach(0)
    assert wire.hear(text(ESCAPE + ESCAPE + "{}"), 0.0) == text(ESCAPE + "{}")


def test_a_control_message_waits_while_the_carrier_takes_nothing() -> None:
    """It goes first when the carrier takes more."""
    stand = Stand()
    carrier = stand.attach()
    carrier.block()
    stand.say("a")
    stand.wire.hear(text(ESCAPE + '{"t":"ping","h":0}'), 0.0)
    assert carrier.sent[1:] == []
    carrier.resume()
    assert carrier.sent[1:] == [f'{ESCAPE}{{"t":"pong","h":0}}', "a"]


def test_a_carrier_that_takes_nothing_owes_one_message_of_each_kind() -> None:
    """A peer that sends and never reads must not make the answers pile up."""
    stand = Stand()
    carrier = stand.attach()
    carrier.block()
    for _ in range(50):
        stand.wire.hear(text("a"), 0.0)
        stand.wire.hear(text(ESCAPE + '{"t":"ping","h":0}'), 0.0)
    stand.wire.ping(b"1111")
    carrier.resume()
    sent = [json.loads(str(message)[1:]) for message in carrier.sent[1:]]
    assert sent == [{"t": "pong", "h": 50}, {"t": "ping", "h": 50}]


def test_whatever_arrives_is_a_sign_of_life() -> None:
    """It is told as a pong to no ping."""
    stand = Stand()
    stand.attach()
    stand.told.clear()
    stand.wire.hear(text("a"), 0.0)
    assert stand.told == [b"-"]


def test_a_ping_is_a_control_message_and_a_native_ping() -> None:
    """At most one control message is unanswered. A page cannot see native pings."""
    stand = Stand()
    carrier = stand.attach()
    assert stand.wire.ping(b"1111")
    assert stand.wire.ping(b"2222")
    assert (carrier.sent[1:], carrier.pings) == ([f'{ESCAPE}{{"t":"ping","h":0}}'], [b"1111", b"2222"])
    carrier.on_pong(b"2222")
    stand.wire.hear(text(ESCAPE + '{"t":"pong","h":0}'), 0.0)
    assert [each for each in stand.told if each != b"-"] == ["writable", b"2222", b"1111", "writable"]
    stand.wire.hear(text(ESCAPE + '{"t":"pong","h":0}'), 0.0)
    assert stand.wire.ping(b"3333")
    assert carrier.sent[2:] == [f'{ESCAPE}{{"t":"ping","h":0}}']


def test_an_older_carrier_is_let_go() -> None:
    """Nothing that it still says is heard."""
    stand = Stand()
    old = stand.attach()
    stand.attach()
    stand.told.clear()
    old.on_pong(b"1234")
    old.block()
    old.resume()
    assert stand.told == []


def test_a_carrier_that_has_left_gets_nothing_more() -> None:
    """What it got last is kept."""
    stand = Stand()
    carrier = stand.attach()
    carrier.block()
    stand.say("a")
    carrier.left = True
    carrier.resume()
    assert (carrier.sent[1:], stand.wire.writable) == ([], False)
    assert stand.attach().sent[1:] == ["a"]


def test_a_violation_is_the_caller_s_business() -> None:
    """It closes the carrier with 1002."""
    stand = Stand()
    stand.attach()
    with pytest.raises(ViolationError):
        stand.wire.hear(ack(1), 0.0)


def test_a_goodbye_leaves_behind_everything_else() -> None:
    """Once the session is over, the wire is not open any more."""
    stand = Stand(max_messages=1)
    carrier = stand.attach()
    stand.say("a", "b")
    stand.session.handler_ended(Bye(1000))
    stand.wire.pump()
    stand.wire.hear(ack(1), 0.0)
    assert carrier.sent[1:] == ["a", "b", str(Bye(1000))]
    stand.session.end()
    assert (stand.session.state, stand.wire.is_open()) == (SessionState.OVER, False)


def test_nothing_follows_a_goodbye() -> None:
    """Neither an answer nor a ping: the client is about to close."""
    stand = Stand()
    carrier = stand.attach()
    stand.session.handler_ended(Bye(1000))
    stand.wire.pump()
    for _ in range(3):
        stand.wire.hear(text("a"), 0.0)
    stand.wire.hear(text(ESCAPE + '{"t":"ping","h":0}'), 0.0)
    stand.wire.ping(b"1111")
    assert carrier.sent[1:] == [str(Bye(1000))]


def test_a_session_without_a_peer_goes_on_by_itself() -> None:
    """Its handler has ended, and the client still has to get the rest."""
    session = Session("s1", "n" * 22, 1, Handed(), OutboundQueue(None, 10, "close"), max_messages=1, max_bytes=1000)
    wire, carrier = SessionWire(session), RecordingWire()
    session._queue.put(Outgoing("a"))
    session._queue.put(Outgoing("b"))
    session.handler_ended(Bye(1000))
    wire.attach(carrier, 0, HELLO)
    assert carrier.sent[1:] == ["a"]
    wire.hear(ack(1), 0.0)
    assert carrier.sent[1:] == ["a", "b", str(Bye(1000))]
