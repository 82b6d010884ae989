"""`wsstab.hub.opening`: a handshake gets a peer and a handler, or a refusal; and no place is lost."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.support.stage import CapableWire, Peer
from wsstab import HeartbeatType, Override, WebSocketConfig, WebSocketConnectionManager, WebSocketStabilizer
from wsstab.config import marks
from wsstab.connection import Handler, run
from wsstab.hub.opening import Opening
from wsstab.hub.serving import SERVER_KEY, ServingServer
from wsstab.manager import hub_of
from wsstab.routes.routing import Routing
from wsstab.types import PEER_KEY, Receive, Scope, Send
from wsstab.wires.asgi import AsgiWire
from wsstab.wires.base import Wire

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that accepts nothing."""


class At:
    """The opening of a manager, with wires that the test provides."""

    def __init__(self, wire: type[Wire] = AsgiWire, **options: Any) -> None:
        self.manager = WebSocketConnectionManager(WebSocketConfig(**options))
        self.hub = hub_of(self.manager)
        self.opening = Opening(self.hub, Routing(self.manager.config, nobody), "connection")
        self.wires: list[Wire] = []
        self._wire: Any = wire
        self.opening.wire_for = self._wire_for

    def _wire_for(self, scope: Scope, receive: Receive, send: Send) -> Wire:
        wire: Wire = self._wire(receive, send)
        self.wires.append(wire)
        return wire

    async def open(self, peer: Peer) -> Handler | None:
        """Open a peer; returns its handler, or ``None`` if it was refused."""
        return await self.opening.open(peer.scope, peer.receive, peer.send)


async def test_an_admitted_peer_is_listed_and_found_in_the_scope() -> None:
    """It has a place of its own until its call is over."""
    at, peer = At(), Peer("/ws/room")
    handler = await at.open(peer)
    assert handler is not None
    inner = handler.peer
    assert (inner.path, inner.address, inner.client_id) == ("/ws/room", "203.0.113.7", inner.id)
    assert (peer.scope[PEER_KEY], peer.scope["state"]["connection"]) == (inner, inner.connection)
    assert (at.hub.calls, at.hub.admission.count, inner.services.connections) == ({inner}, 1, 1)
    await run(nobody, peer.scope, handler)
    assert (at.hub.calls, at.hub.admission.count, list(at.hub.loops)) == (set(), 0, [])


async def test_a_refused_peer_is_answered_and_takes_no_place() -> None:
    """The answer is an HTTP response if the server takes one, otherwise a close."""
    at = At(max_connections=1)
    first = await at.open(Peer())
    assert first is not None
    answers: list[tuple[dict[str, Any], str]] = [
        ({"websocket.http.response": {}}, "http.response.start"),
        ({}, "close"),
    ]
    for extensions, answer in answers:
        peer = Peer(extensions=extensions)
        assert await at.open(peer) is None
        assert peer.sent[0]["type"] == f"websocket.{answer}"
        assert PEER_KEY not in peer.scope
    assert at.hub.admission.count == 1
    await run(nobody, {}, first)


async def test_a_stopping_server_lets_no_peer_in() -> None:
    """Nor does it let in a peer that was being authorized when the stop began."""
    server = ServingServer()

    async def slow(scope: Scope) -> bool:
        server.stopping = True
        return True

    at = At(authorize=slow)
    for _ in range(2):
        peer = Peer(state={SERVER_KEY: server})
        assert await at.open(peer) is None
        assert peer.sent[0]["status"] == 503
    assert at.hub.admission.count == 0


async def test_a_state_key_that_is_in_use_raises_and_takes_no_place() -> None:
    """The error names the option that chooses another key."""
    at = At()
    with pytest.raises(RuntimeError, match="connection_key="):
        await at.open(Peer(state={"connection": "of somebody else"}))
    assert (at.hub.admission.count, at.hub.calls) == (0, set())


class Obstinate(AsgiWire):
    """The wire of a server that records what it is told, and keeps a size limit of its own."""

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__(receive, send)
        self.told: list[str] = []

    def take_over_keepalive(self) -> None:
        self.told.append("keepalive")

    def limit_message_size(self, limit: int) -> int | None:
        self.told.append(f"size {limit}")
        return 16

    def refuse_context_takeover(self) -> bool:
        self.told.append("small windows")
        return True


async def test_the_server_is_told_the_configured_options(caplog: pytest.LogCaptureFixture) -> None:
    """Where it cannot comply, one warning says so."""
    caplog.set_level(logging.WARNING, "wsstab")
    at = At(Obstinate, max_message_size=100, compression="deflate")
    for _ in range(2):
        handler = await at.open(Peer())
        assert handler is not None
        await run(nobody, {}, handler)
    (wire, _) = at.wires
    assert isinstance(wire, Obstinate)
    assert wire.told == ["keepalive", "small windows", "size 100"]
    assert wire.compress_from == at.manager.config.compression_threshold
    assert caplog.text.count("the server refuses messages over 16 bytes") == 1


async def test_without_a_heartbeat_the_server_keeps_its_own() -> None:
    """``heartbeat_type="off"`` leaves the server's keepalive alone."""
    at = At(Obstinate, heartbeat_type=HeartbeatType.OFF, max_message_size=None)
    handler = await at.open(Peer())
    assert handler is not None
    await run(nobody, {}, handler)
    (wire,) = at.wires
    assert isinstance(wire, Obstinate)
    assert wire.told == ["small windows"]


class Compressing(CapableWire):
    """A wire of a known server that always compresses."""

    __slots__ = ()

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__(Peer())

    def refuse_compression(self) -> bool:
        return False


async def test_compression_that_cannot_be_refused_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """No other warning covers it."""
    at = At(Compressing, compression="none")
    handler = await at.open(Peer())
    assert handler is not None
    await run(nobody, {}, handler)
    assert 'compression="none" cannot act' in caplog.text


async def test_a_configuration_with_routes_requires_a_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint that runs must have passed the guards of its path."""
    monkeypatch.setattr(marks, "_marked", [])
    at = At(routes={"/ws/*": Override(max_message_size=10)})
    for path, looks in (("/ws/x", True), ("/other", True)):
        handler = await at.open(Peer(path))
        assert handler is not None
        assert (handler.peer.second_look is not None) is looks
        await run(nobody, {}, handler)
    plain = await At().open(Peer())
    assert plain is not None
    assert plain.peer.second_look is None
    await run(nobody, {}, plain)


async def test_an_inner_stabilizer_asks_its_own_guards() -> None:
    """A peer that the outer stabilizer has let in may be refused by the inner one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert await inner.opening.admits(scope[PEER_KEY], scope)
        await send({"type": "websocket.accept"})

    inner = At(allowed_origins=["https://only.example"])
    stabilizer = WebSocketStabilizer(app, allowed_origins="*")
    for origin, answer in ((b"https://only.example", "accept"), (b"https://other.example", "http.response.start")):
        peer = Peer(headers=[(b"origin", origin), (b"host", b"here.example")])
        await stabilizer(peer.scope, peer.receive, peer.send)
        assert peer.sent[0]["type"] == f"websocket.{answer}"
