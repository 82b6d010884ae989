"""A known outer middleware sees handshake, refusal and close, and messages bypass it; of others the log warns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.composition.rows import SERVERS
from tests.conftest import MakeServer
from tests.support.frames import PING
from tests.support.peer import Denied, Peer
from tests.support.server import Server, Variant
from tests.support.waiting import eventually

WATCHED = "tests.composition.apps.watched:app"
PROTOCOL = {"ws": "wsstab.wires.uvicorn:Protocol"}


@pytest.fixture(scope="module", params=SERVERS, ids=str)
def observed(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server whose application is inside of OpenTelemetry's middleware."""
    with Server(WATCHED, request.param, {"around": "opentelemetry"}) as running:
        yield running


def events(server: Server, path: str, count: int) -> list[Any]:
    """Wait until the outer middleware has seen this many events of a path, and return the last ones."""

    def last() -> list[Any]:
        seen = [each[1:] for each in server.get("/-/look")["seen"] if each[0] == path]
        return seen[-count:] if len(seen) >= count else []

    return eventually(last)


def gone(server: Server) -> None:
    """Wait until no connection is left."""
    eventually(lambda: server.get("/-/look")["wires"] == [])


def test_an_observer_sees_the_connection_and_not_its_messages(observed: Server) -> None:
    """It sees the accept, to whose headers it adds, and the close with code and reason, but none of 50 echoes."""
    before = len(observed.get("/-/look")["seen"])
    with Peer(observed.address, "/ws/echo") as peer:
        if observed.variant.traits.accept_headers:
            headers = {name.lower() for name, _ in peer.answer.headers}
            assert {"x-handler", "traceresponse"} <= headers
        for number in range(50):
            peer.send(str(number))
        assert peer.receive_many(50) == [str(number) for number in range(50)]
        peer.send("close")
        close = peer.receive_close()
        assert (close.code, close.reason) == (4001, "as told")
        peer.ended()
    accept, end = events(observed, "echo", 2)
    assert accept[0] == "websocket.accept"
    assert end == ["websocket.close", 4001, "as told"]
    assert len(observed.get("/-/look")["seen"]) == before + 2


@pytest.mark.parametrize("path", ["refuse", "full"])
def test_an_observer_sees_a_refusal(observed: Server, path: str) -> None:
    """It may be the handler's or ours."""
    with pytest.raises(Denied) as denied:
        Peer(observed.address, f"/ws/{path}", origin="https://other.example")
    assert denied.value.answer.status == 403
    assert events(observed, path, 1)[0][0] in ("websocket.close", "websocket.http.response.body")


def test_a_broadcast_inside_of_an_observer_bypasses_it(observed: Server) -> None:
    """So do the pings, where the server has them."""
    with Peer(observed.address, "/ws/echo") as peer:
        eventually(lambda: len(observed.get("/-/look")["wires"]) == 1)
        before = len(observed.get("/-/look")["seen"])
        assert observed.get("/-/look")["wires"] != ["AsgiWire"]
        assert observed.post("/-/shout") == "said"
        assert peer.receive_many(20) == [f"to all {number}" for number in range(20)]
        if observed.variant.traits.native_ping:
            peer.read_until(lambda frames: sum(frame.opcode == PING for frame in frames) >= 2)
        assert len(observed.get("/-/look")["seen"]) == before
    gone(observed)


def test_a_stalled_peer_inside_of_an_observer_is_cut_off(observed: Server) -> None:
    """The observer does not hold it up."""
    with Peer(observed.address, "/ws/flood", receive_buffer=4096):
        eventually(lambda: len(observed.get("/-/look")["wires"]) == 1)
        gone(observed)
    assert "Traceback" not in observed.log
    heartbeat = [line for line in observed.log.splitlines() if "heartbeat" in line]
    assert len(heartbeat) == (not observed.variant.traits.native_ping)
    assert all("no heartbeat: granian sends no WebSocket pings" in line for line in heartbeat)


def test_unknown_middleware_is_named_in_the_log_once(serve: MakeServer) -> None:
    """It changes every message, as it does without us, and the log says what that costs and what to do."""
    server = serve(WATCHED, SERVERS[0], {"around": "unknown"})
    for _ in range(2):
        with Peer(server.address, "/ws/echo") as peer:
            peer.send("quiet")
            assert peer.receive() == "QUIET"
            assert server.get("/-/look")["wires"] == ["AsgiWire"]
        gone(server)
    [line] = [line for line in server.log.splitlines() if "WARNING wsstab" in line]
    assert "tests.composition.apps.watched.change wraps the send() of uvicorn" in line
    assert "the only heartbeat is uvicorn's own ping every 20 s" in line
    assert "app = WebSocketStabilizer(app), or start uvicorn with --ws wsstab.wires.uvicorn:Protocol" in line


def test_the_protocol_class_bypasses_unknown_middleware(serve: MakeServer) -> None:
    """The middleware sees the accept, to whose headers it adds, and the close, but no message to change."""
    server = serve(WATCHED, SERVERS[0], {"around": "unknown"}, settings=PROTOCOL)
    with Peer(server.address, "/ws/echo") as peer:
        assert {"x-around", "x-handler"} <= {name.lower() for name, _ in peer.answer.headers}
        assert server.get("/-/look")["wires"] == ["SansioWire"]
        peer.send("quiet")
        assert peer.receive() == "quiet"
        peer.read_until(lambda frames: any(frame.opcode == PING for frame in frames))
        peer.send("close")
        assert peer.receive_close().code == 4001
    assert [each[0] for each in events(server, "echo", 2)] == ["websocket.accept", "websocket.close"]
    assert "WARNING wsstab" not in server.log


@pytest.mark.parametrize("variant", SERVERS, ids=str)
def test_a_service_inside_of_an_observer_drains(serve: MakeServer, variant: Variant) -> None:
    """A signal drains its sockets as it does without an observer."""
    server = serve(WATCHED, variant, {"around": "opentelemetry"})
    with Peer(server.address, "/ws/echo") as peer:
        peer.send("here")
        assert peer.receive() == "here"
        server.signal()
        close = peer.receive_close()
        assert (close.code, close.reason) == variant.drained
    server.wait()


def test_an_accept_that_a_middleware_withholds_is_a_refusal(serve: MakeServer) -> None:
    """The protocol class bypasses middleware, but it may send nothing before the answer to the handshake."""
    server = serve(WATCHED, SERVERS[0], {"around": "keeping"}, settings=PROTOCOL)
    with pytest.raises(Denied) as denied:
        Peer(server.address, "/ws/echo")
    assert denied.value.answer.status == 403
    eventually(lambda: "websocket.accept has not reached uvicorn" in server.log)


def test_a_middleware_that_fails_at_a_close_does_not_hold_it_up(serve: MakeServer) -> None:
    """The peer gets the code, and the error is in the log."""
    server = serve(WATCHED, SERVERS[0], {"around": "failing"}, settings=PROTOCOL)
    with Peer(server.address, "/ws/echo") as peer:
        peer.send("close")
        assert peer.receive_close().code == 4001
    eventually(lambda: "LookupError: no context here" in server.log)
