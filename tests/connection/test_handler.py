"""The handler's side: the ASGI ``send`` in the place of the server's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stage import Peer, on_stage, settle, until
from wsstab.connection.handler import outgoing_of
from wsstab.errors import PeerGoneError
from wsstab.types import Event, Receive, Scope, Send

pytestmark = pytest.mark.anyio

ACCEPT: Event = {"type": "websocket.accept"}


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


class Script:
    """An ASGI application that sends events, one after the other, and keeps what they raised."""

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
    """The peer of a script that has ended."""
    async with on_stage(script, bare=True, **options) as stage:
        peer = stage.call(Peer())
        await peer.over()
        return peer


async def test_accept_passes_everything_that_it_carries() -> None:
    """Subprotocol and headers; a handler that returns closes with 1000."""
    accept = {**ACCEPT, "subprotocol": "chat", "headers": [(b"x-trace", b"1")]}
    peer = await run(Script(accept))
    assert peer.sent[0] == accept
    assert peer.inner.subprotocol == "chat"
    assert peer.closed == (1000, "")


async def test_a_second_accept_is_illegal() -> None:
    """And changes nothing."""
    script = Script(ACCEPT, ACCEPT, {"type": "websocket.send", "text": "on"})
    peer = await run(script)
    assert [type(error) for error in script.raised] == [RuntimeError]
    assert peer.kinds == ["websocket.accept", "websocket.send", "websocket.close"]


async def test_an_event_that_asgi_does_not_know_is_illegal() -> None:
    """It is named."""
    script = Script(ACCEPT, {"type": "websocket.wave"})
    await run(script)
    assert [str(error) for error in script.raised] == ["Unexpected ASGI message 'websocket.wave'."]


async def test_a_message_without_content_is_illegal() -> None:
    """Text or bytes."""
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
async def test_codes_and_reasons_of_a_handler_are_clamped(close: dict[str, Any], told: tuple[int, str]) -> None:
    """What may not travel is replaced; what is no text becomes text."""
    peer = await run(Script(ACCEPT, {"type": "websocket.close", **close}))
    assert peer.closed == told


async def test_closing_twice_is_closing_once() -> None:
    """The first one counts."""
    script = Script(ACCEPT, {"type": "websocket.close", "code": 4000}, {"type": "websocket.close", "code": 4001})
    peer = await run(script)
    assert script.raised == []
    assert peer.kinds == ["websocket.accept", "websocket.close"]
    assert peer.closed == (4000, "")


async def test_a_close_before_accept_refuses() -> None:
    """It goes to the server as it is, which makes a 403 of it."""
    peer = await run(Script({"type": "websocket.close", "code": 4003, "reason": "no"}))
    assert peer.kinds == ["websocket.close"]
    assert peer.closed == (4003, "no")


async def test_a_denial_response_passes_in_all_its_parts() -> None:
    """And ends with its last part."""
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
    """As ASGI has it."""
    script = Script(ACCEPT, {"type": "websocket.http.response.start", "status": 418, "headers": []})
    peer = await run(script)
    assert [type(error) for error in script.raised] == [RuntimeError]
    assert peer.kinds == ["websocket.accept", "websocket.close"]


@pytest.mark.parametrize("event", [ACCEPT, {"type": "websocket.http.response.start", "status": 418, "headers": []}])
async def test_who_left_before_the_handshake_was_complete_is_gone(event: Event) -> None:
    """The handler learns it from its first event, as an ``OSError``."""
    script = Script(event, after=True)
    async with on_stage(script, bare=True) as stage:
        peer = stage.call(Peer())
        await settle()
        peer.leaves(1006)
        await peer.over()
        assert peer.sent == []
    assert [type(error) for error in script.raised] == [PeerGoneError]


async def test_a_server_that_fails_to_accept_means_a_peer_that_left() -> None:
    """An ``OSError`` of the server becomes ours."""
    script = Script(ACCEPT)
    async with on_stage(script, bare=True) as stage:
        peer = Peer()
        peer.gone = True
        stage.call(peer)
        await peer.over()
    assert [type(error) for error in script.raised] == [PeerGoneError]
    assert "before the handshake was complete" in str(script.raised[0])
    assert peer.error is None


async def test_a_peer_that_leaves_after_its_denial_began_harms_nothing() -> None:
    """There is nothing more to say to it."""
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


async def test_a_reference_error_of_somebody_between_is_an_error() -> None:
    """Only one of ours says that the connection has ended."""

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
