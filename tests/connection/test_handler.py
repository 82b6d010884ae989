"""The application's side: the ASGI ``receive`` and ``send`` that a handler gets instead of the server's."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import CapableWire, Peer, Stage, echo, on_stage, push_only, settle, until
from wsstab import RateLimit
from wsstab.close import Cause, Close
from wsstab.connection import current_peer
from wsstab.connection.handler import ENDED, outgoing_of
from wsstab.connection.sender import CHECKPOINT_EVERY
from wsstab.core.frames import Outgoing
from wsstab.errors import PeerGoneError
from wsstab.types import Event, Receive, Scope, Send

pytestmark = pytest.mark.anyio

ACCEPT: Event = {"type": "websocket.accept"}


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


class Script:
    """An ASGI application that sends events one after the other, and records the errors that the sends raise."""

    def __init__(self, *events: Event, after: bool = False) -> None:
        self._events = events
        self._after = after
        self.raised: list[Exception] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        if self._after:
            assert (await receive())["type"] == "websocket.disconnect"
        for event in self._events:
            try:
                await send(event)
            except (OSError, RuntimeError) as error:
                self.raised.append(error)


async def run(script: Script, **options: Any) -> Peer:
    """Run a script to its end, and return its peer."""
    async with on_stage(script, bare=True, **options) as stage:
        peer = stage.call(Peer())
        await peer.over()
        return peer


async def test_accept_passes_subprotocol_and_headers_on() -> None:
    """The handler then returns, which closes with 1000."""
    accept = {**ACCEPT, "subprotocol": "chat", "headers": [(b"x-trace", b"1")]}
    peer = await run(Script(accept))
    assert peer.sent[0] == accept
    assert peer.inner.subprotocol == "chat"
    assert peer.closed == (1000, "")


async def test_a_second_accept_is_illegal() -> None:
    """It raises, and the connection stays open."""
    script = Script(ACCEPT, ACCEPT, {"type": "websocket.send", "text": "on"})
    peer = await run(script)
    assert [type(error) for error in script.raised] == [RuntimeError]
    assert peer.kinds == ["websocket.accept", "websocket.send", "websocket.close"]


async def test_an_unknown_asgi_event_is_illegal() -> None:
    """The error names its type."""
    script = Script(ACCEPT, {"type": "websocket.wave"})
    await run(script)
    assert [str(error) for error in script.raised] == ["Unexpected ASGI message 'websocket.wave'."]


async def test_a_message_without_text_or_bytes_is_illegal() -> None:
    """Empty text and empty bytes are content, ``None`` is not."""
    with pytest.raises(RuntimeError, match="needs text or bytes"):
        outgoing_of({"type": "websocket.send", "text": None})
    assert outgoing_of({"type": "websocket.send", "bytes": b"", "text": None}).data == b""
    assert outgoing_of({"type": "websocket.send", "bytes": None, "text": ""}).data == ""


@pytest.mark.parametrize(
    ("close", "told"),
    [
        ({}, (1000, "")),
        ({"code": 4000, "reason": "off"}, (4000, "off")),
        ({"code": 1005, "reason": None}, (1000, "")),
        ({"code": 99}, (1011, "")),
        ({"code": 4000, "reason": "ä" * 100}, (4000, "ä" * 61)),
        ({"code": 1008, "reason": [{"msg": "missing"}]}, (1008, "[{'msg': 'missing'}]")),
    ],
)
async def test_close_codes_and_reasons_of_a_handler_are_clamped(close: dict[str, Any], told: tuple[int, str]) -> None:
    """A code that may not be sent is replaced, a long reason is cut, and a reason of another type becomes text."""
    peer = await run(Script(ACCEPT, {"type": "websocket.close", **close}))
    assert peer.closed == told


async def test_a_second_close_is_ignored() -> None:
    """Code and reason of the first one count."""
    script = Script(ACCEPT, {"type": "websocket.close", "code": 4000}, {"type": "websocket.close", "code": 4001})
    peer = await run(script)
    assert script.raised == []
    assert peer.kinds == ["websocket.accept", "websocket.close"]
    assert peer.closed == (4000, "")


async def test_a_close_before_accept_refuses_the_handshake() -> None:
    """It goes unchanged to the server, which answers with a 403."""
    peer = await run(Script({"type": "websocket.close", "code": 4003, "reason": "no"}))
    assert peer.kinds == ["websocket.close"]
    assert peer.closed == (4003, "no")


async def test_all_parts_of_a_denial_response_are_passed_on() -> None:
    """The denial ends with its last part."""
    start = {"type": "websocket.http.response.start", "status": 418, "headers": []}
    parts: list[Event] = [
        {"type": "websocket.http.response.body", "body": b"tea", "more_body": True},
        {"type": "websocket.http.response.body", "body": b"pot"},
    ]
    script = Script(start, *parts)
    peer = await run(script)
    assert peer.sent == [start, *parts]
    assert script.raised == []


async def test_a_denial_after_accept_is_illegal() -> None:
    """ASGI allows a denial response only before accept."""
    script = Script(ACCEPT, {"type": "websocket.http.response.start", "status": 418, "headers": []})
    peer = await run(script)
    assert [type(error) for error in script.raised] == [RuntimeError]
    assert peer.kinds == ["websocket.accept", "websocket.close"]


@pytest.mark.parametrize("event", [ACCEPT, {"type": "websocket.http.response.start", "status": 418, "headers": []}])
async def test_answering_a_handshake_of_a_departed_peer_raises(event: Event) -> None:
    """The handler's first event raises `PeerGoneError`, which is an ``OSError``."""
    script = Script(event, after=True)
    async with on_stage(script, bare=True) as stage:
        peer = stage.call(Peer())
        await settle()
        peer.leaves(1006)
        await peer.over()
        assert peer.sent == []
    assert [type(error) for error in script.raised] == [PeerGoneError]


async def test_an_os_error_of_the_server_on_accept_means_that_the_peer_has_left() -> None:
    """The handler gets it as a `PeerGoneError`."""
    script = Script(ACCEPT)
    async with on_stage(script, bare=True) as stage:
        peer = Peer()
        peer.gone = True
        stage.call(peer)
        await peer.over()
    assert [type(error) for error in script.raised] == [PeerGoneError]
    assert "before the handshake was complete" in str(script.raised[0])
    assert peer.error is None


async def test_a_peer_that_leaves_during_its_denial_is_no_error() -> None:
    """There is nothing more to tell it."""
    start = {"type": "websocket.http.response.start", "status": 418, "headers": []}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        assert (await receive())["type"] == "websocket.connect"
        assert (await receive())["type"] == "websocket.disconnect"

    async with on_stage(app, bare=True) as stage:
        peer = stage.call(Peer())
        await until(lambda: peer.sent == [start])
        peer.leaves()
        await peer.over()
        assert peer.error is None


async def test_a_reference_error_from_middleware_is_an_error() -> None:
    """It must not be mistaken for a connection that has ended."""

    async def keeps(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "first"})

    class Between(Peer):
        async def send(self, event: Any) -> None:
            if event["type"] == "websocket.send":
                raise ReferenceError("weakly-referenced object no longer exists")
            await super().send(event)

    async with on_stage(keeps, bare=True, errors=True) as stage:
        peer = stage.call(Between())
        await peer.over()
    assert isinstance(peer.error, ReferenceError)


# What a handler receives.


@pytest.mark.parametrize("capable", [False, True], ids=["asgi", "capable"])
async def test_a_handler_receives_each_event_once_and_in_order(capable: bool) -> None:
    """The disconnect comes last; receiving after it raises."""
    seen: list[Event] = []
    refused: list[str] = []

    async def listener(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        await send(ACCEPT)
        while seen[-1]["type"] != "websocket.disconnect":
            seen.append(await receive())
        with pytest.raises(RuntimeError) as caught:
            await receive()
        refused.append(str(caught.value))

    async with on_stage(listener, bare=True, capable=capable) as stage:
        peer = await stage.open()
        peer.says("one", b"two")
        await until(lambda: len(seen) == 3)
        peer.says("three")
        peer.leaves(4000, "bye")
        await peer.over()
    assert [event.get("text") or event.get("bytes") for event in seen[1:4]] == ["one", b"two", "three"]
    assert seen[4:] == [{"type": "websocket.disconnect", "code": 4000, "reason": "bye"}]
    assert refused == [ENDED]


@pytest.mark.parametrize("capable", [False, True], ids=["asgi", "capable"])
async def test_an_event_of_unknown_type_is_handed_to_the_handler(capable: bool) -> None:
    """The handler may know it, and it does not end the connection."""
    seen: list[str] = []

    async def listener(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(2):
            seen.append((await receive())["type"])

    async with on_stage(listener, bare=True, capable=capable) as stage:
        peer = await stage.open()
        peer._inbox.append({"type": "websocket.wave"})
        peer.says("hello")
        await peer.over()
    assert seen == ["websocket.wave", "websocket.receive"]


async def test_a_cancelled_receive_loses_no_message() -> None:
    """The next ``receive()`` returns it."""
    gave_up, seen = anyio.Event(), list[str]()

    async def impatient(websocket: WebSocket) -> None:
        await websocket.accept()
        with anyio.move_on_after(0):
            await websocket.receive_text()
        gave_up.set()
        seen.append(await websocket.receive_text())

    async with on_stage(impatient, capable=True) as stage:
        peer = await stage.open()
        await gave_up.wait()
        peer.says("hello")
        await peer.over()
    assert seen == ["hello"]


async def test_messages_held_back_by_a_rate_limit_arrive_in_order() -> None:
    """None of them is lost."""
    rate = RateLimit(messages_per_second=500, burst=1, action="delay")
    async with on_stage(echo, capable=True, rate_limit=rate) as stage:
        peer = await stage.open()
        peer.says(*"abcd")
        assert await peer.hears(4) == list("abcd")


# What a handler sends.


class AtOnceWire(CapableWire):
    """A wire that takes a handler's message at once, or raises; a ``ConnectionResetError`` means a departed peer.

    Attributes:
        error: what it raises.
    """

    __slots__ = ("error",)

    def __init__(self, peer: Peer, error: Exception | None = None) -> None:
        super().__init__(peer)
        self.error = error

    async def accept(self, event: Event) -> None:
        if self.error is not None:
            raise self.error
        await super().accept(event)

    async def deny(self, event: Event) -> None:
        if self.error is not None:
            raise self.error
        await super().deny(event)

    def send_at_once(self, message: Outgoing) -> bool:
        self._peer.sent.append(message.event())
        return True

    def says_gone(self, error: Exception) -> bool:
        return isinstance(error, ConnectionResetError)


def with_wires(stage: Stage, error: Exception | None = None) -> None:
    """Give each peer of a stage an `AtOnceWire`."""

    def wire_for(scope: Scope, receive: Receive, send: Send) -> AtOnceWire:
        peer = stage._by_scope[id(scope)]
        peer.wire = AtOnceWire(peer, error)
        return peer.wire

    stage.middleware._opening.wire_for = wire_for


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_handler_that_only_sends_lets_other_tasks_run(at_once: bool) -> None:
    """It does so even on a wire where no send has to wait."""
    turns: list[int] = []
    events: list[Event] = [{"type": "websocket.send", "text": str(number)} for number in range(3 * CHECKPOINT_EVERY)]
    script = Script(ACCEPT, *events)
    async with on_stage(script, bare=True, capable=True) as stage:
        if at_once:
            with_wires(stage)
        peer = stage.call(Peer())
        while not peer.done.is_set():
            turns.append(len(peer.messages))
            await anyio.lowlevel.checkpoint()
    assert peer.messages == [event["text"] for event in events]
    assert [count for count in turns if 0 < count < len(events)]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (ACCEPT, "before the handshake was complete"),
        ({"type": "websocket.http.response.start", "status": 418, "headers": []}, "before it was refused"),
    ],
    ids=["accept", "deny"],
)
async def test_only_an_error_of_the_server_means_that_a_peer_left_before_its_answer(event: Event, words: str) -> None:
    """Any other error reaches the handler unchanged."""
    for error in (ConnectionResetError("reset"), FileNotFoundError("no such file")):
        script = Script(event)
        async with on_stage(script, bare=True, capable=True) as stage:
            with_wires(stage, error)
            peer = stage.call(Peer())
            await peer.over()
        (raised,) = script.raised
        if isinstance(error, ConnectionResetError):
            assert isinstance(raised, PeerGoneError)
            assert words in str(raised)
            assert raised.__cause__ is error
        else:
            assert raised is error


async def test_a_connection_that_is_closed_during_accept_never_opens() -> None:
    """It counts as no opening, and its peer gets the close."""
    async with on_stage(push_only) as stage:
        peer = Peer()
        peer.stalled = True
        stage.call(peer)
        await settle()
        peer.inner.closing.begin(Close(4100, "ours", Cause.STABILIZER))
        peer.resume()
        await until(lambda: peer.closed)
        assert peer.closed == (4100, "ours")
        assert stage.manager.statistics().opened == 0
        assert stage.manager.get_connection_count() == 0


async def test_an_accept_after_the_end_raises_with_the_close() -> None:
    """The message of the error gives code and reason."""
    raised: list[str] = []
    ready = anyio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await ready.wait()
        with pytest.raises(PeerGoneError) as caught:
            await send(ACCEPT)
        raised.append(str(caught.value))

    async with on_stage(late, bare=True) as stage:
        peer = stage.call(Peer())
        await settle()
        peer.inner.closing.begin(Close(4100, "off", Cause.APPLICATION))
        await peer.inner.closing.latch.wait()
        ready.set()
        await peer.over()
    assert raised == ["the connection has ended: 4100 off"]


class Guard:
    """A check just before accept, which refuses the peer if it is told to."""

    def __init__(self, peer: Peer, refuses: bool) -> None:
        self._peer = peer
        self._refuses = refuses

    async def check(self) -> bool:
        """Close the connection if the guard refuses."""
        if self._refuses:
            self._peer.inner.closing.begin(Close(4403, "no", Cause.STABILIZER))
            await self._peer.inner.closing.latch.wait()
        return not self._refuses


@pytest.mark.parametrize("refuses", [False, True])
async def test_the_second_look_is_taken_before_accept(refuses: bool) -> None:
    """A peer that it refuses is never accepted."""
    ready = anyio.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await ready.wait()
        await send(ACCEPT)

    async with on_stage(late, bare=True) as stage:
        peer = stage.call(Peer())
        await settle()
        guard: Any = Guard(peer, refuses)
        peer.inner.second_look = guard
        ready.set()
        await peer.over()
        assert ("websocket.accept" in peer.kinds) is not refuses
        assert stage.manager.statistics().opened == (not refuses)


async def test_at_debug_the_answer_to_a_handshake_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An accept and a denial are logged alike."""
    caplog.set_level(logging.DEBUG, "wsstab")
    await run(Script({**ACCEPT, "subprotocol": "chat"}))
    start = {"type": "websocket.http.response.start", "status": 418, "headers": []}
    await run(Script(start, {"type": "websocket.http.response.body", "body": b""}))
    assert "> accepted with a subprotocol, by asgi" in caplog.text
    assert "> denied with 418" in caplog.text


# Messages for a connection that is over.

PROMISED, NOT_PROMISED = {"spec_version": "2.4"}, {"spec_version": "2.3"}
LATE: Event = {"type": "websocket.send", "text": "late"}


class Kept:
    """An application that accepts, exposes its ``send``, and then waits for the end in one of three ways.

    Attributes:
        send: the ASGI ``send`` that it got.
        go: set when it may send.
        raised: the error of its own sends, and how many sends before it were dropped.
    """

    def __init__(self, how: str = "waits", sends: int = 2 * CHECKPOINT_EVERY) -> None:
        self._how = how
        self._sends = sends
        self.go = anyio.Event()
        self.raised: tuple[int, Exception] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.send = send
        await receive()
        await send(ACCEPT)
        if self._how == "receives":
            await receive()
        elif self._how == "is told":
            await scope["state"]["connection"].closed
        await self.go.wait()
        for number in range(self._sends):
            try:
                await send(LATE)
            except (OSError, RuntimeError) as error:
                self.raised = (number, error)
                break


async def left(stage: Stage, **asgi: str) -> Peer:
    """A peer that has left while its handler goes on."""
    peer = await stage.open(asgi=asgi)
    peer.leaves(1001)
    await until(lambda: peer.inner.closing.event)
    return peer


async def test_where_asgi_promises_an_error_the_first_late_send_raises() -> None:
    """ASGI 2.4 and later promise an ``OSError`` for a send to a departed peer."""
    kept = Kept()
    async with on_stage(kept, bare=True) as stage:
        peer = await left(stage, **PROMISED)
        kept.go.set()
        await peer.over()
    assert kept.raised is not None
    assert (kept.raised[0], type(kept.raised[1])) == (0, PeerGoneError)


async def test_where_asgi_promises_no_error_a_bounded_number_of_late_sends_is_dropped() -> None:
    """They are counted. The handler may be on its way to its disconnect, but must not go on for ever."""
    kept = Kept()
    async with on_stage(kept, bare=True) as stage:
        peer = await left(stage, **NOT_PROMISED)
        kept.go.set()
        await peer.over()
        assert kept.raised is not None
        assert isinstance(kept.raised[1], PeerGoneError)
        assert 0 < kept.raised[0] < CHECKPOINT_EVERY
        assert stage.manager.statistics().dropped_outbound == kept.raised[0]


async def test_late_sends_raise_once_a_handler_takes_too_long_to_receive(monkeypatch: pytest.MonkeyPatch) -> None:
    """That holds however few messages it sends."""
    monkeypatch.setattr("wsstab.connection.handler.LONGEST_WAY_TO_THE_END", 0.0)
    kept = Kept()
    async with on_stage(kept, bare=True) as stage:
        peer = await left(stage, **NOT_PROMISED)
        kept.go.set()
        await peer.over()
    assert kept.raised is not None
    assert (kept.raised[0], type(kept.raised[1])) == (0, PeerGoneError)


@pytest.mark.parametrize("how", ["receives", "is told"])
async def test_late_sends_raise_at_once_in_a_handler_that_knows_of_the_end(how: str) -> None:
    """It has received its disconnect or awaited ``closed``, so no further disconnect would stop it."""
    kept = Kept(how)
    async with on_stage(kept, bare=True) as stage:
        peer = await left(stage, **NOT_PROMISED)
        kept.go.set()
        await peer.over()
    assert kept.raised is not None
    assert (kept.raised[0], type(kept.raised[1])) == (0, PeerGoneError)


async def test_late_sends_raise_at_once_after_a_close_by_the_stabilizer() -> None:
    """That holds for every ASGI version: no framework relies on a disconnect that only the stabilizer causes."""
    kept = Kept()
    async with on_stage(kept, bare=True) as stage:
        peer = await stage.open(asgi=NOT_PROMISED)
        peer.inner.closing.begin(Close(4100, "ours", Cause.STABILIZER))
        await until(lambda: peer.inner.closing.event)
        kept.go.set()
        await peer.over()
    assert kept.raised is not None
    assert kept.raised[0] == 0
    assert str(kept.raised[1]) == "the connection has ended: 4100 ours"


async def test_outside_of_handlers_a_late_send_raises_only_if_asgi_promises_it() -> None:
    """That is in an HTTP request or a background task, say. A send that does not raise is counted as dropped."""
    for asgi in (PROMISED, NOT_PROMISED):
        kept = Kept(sends=0)
        async with on_stage(kept, bare=True) as stage:
            await left(stage, **asgi)
            if asgi is PROMISED:
                with pytest.raises(PeerGoneError):
                    await kept.send(LATE)
            else:
                for _ in range(2 * CHECKPOINT_EVERY):
                    await kept.send(LATE)
            dropped = 0 if asgi is PROMISED else 2 * CHECKPOINT_EVERY
            assert stage.manager.statistics().dropped_outbound == dropped
            kept.go.set()


async def test_a_late_send_from_another_connection_s_handler_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """That handler has done nothing wrong. An event other than a message still raises there."""
    caplog.set_level(logging.DEBUG, "wsstab")
    kept = Kept(sends=0)
    async with on_stage(kept, bare=True) as stage:
        await left(stage, **PROMISED)
        send, other = kept.send, await stage.open()
        token = current_peer.set(other.inner)
        await send(LATE)
        with pytest.raises(PeerGoneError):
            await send(ACCEPT)
        current_peer.reset(token)
        assert stage.manager.statistics().dropped_outbound == 1
        assert "> dropped, for it is over" in caplog.text
        kept.go.set()
