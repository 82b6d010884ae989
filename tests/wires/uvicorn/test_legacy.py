"""The wire to uvicorn's deprecated implementation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.frames import CLOSE, TEXT, Frame
from tests.support.peer import Denied, Vanished
from tests.support.waiting import eventually
from tests.wires.uvicorn.house import OFFER, Call, House, house_of
from wsstab.wires.uvicorn.legacy import LegacyWire

pytestmark = [
    # uvicorn and the library warn when they are imported, and the library warns at each connection.
    pytest.mark.filterwarnings("ignore:The `websockets` implementation is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:websockets.server.WebSocketServerProtocol is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A server with this implementation."""
    with house_of("websockets", ws_ping_interval=None) as running:
        yield running


def limit(wire: Any) -> None:
    """Allow no message over 100 bytes."""
    assert wire.limit_message_size(100) is None


# The handshake.


def test_messages_go_in_both_directions(house: House) -> None:
    """Our frames follow the server's answer to the handshake; there is no shortcut past the wire."""
    with house.connected() as (peer, call):
        assert isinstance(call.wire, LegacyWire)
        assert call.wire.shortcut() is None
        house.say(call, "one", "two")
        assert peer.receive_many(2) == ["one", "two"]
        peer.send("three")
        eventually(lambda: call.texts == ["three"])


@pytest.mark.parametrize("offer", [OFFER, None])
def test_compression_can_be_refused(house: House, offer: str | None) -> None:
    """The server reads its list of extensions only after the application has accepted."""
    with house.connected(prepare=lambda wire: wire.refuse_compression(), extensions=offer) as (peer, call):
        assert (peer.extensions, call.wire.deflates) == (None, None)


@pytest.mark.parametrize("offer", [OFFER, None])
def test_context_takeover_can_be_refused(house: House, offer: str | None) -> None:
    """For both directions; without an offer there is no compression at all."""

    def spare(wire: Any) -> None:
        wire.compress_from = 64
        assert wire.refuse_context_takeover()

    with house.connected(prepare=spare, extensions=offer) as (peer, call):
        answered = {each.strip() for each in (peer.extensions or "").split(";")}
        wanted = {"server_no_context_takeover", "client_no_context_takeover"}
        assert (wanted <= answered) is (call.wire.deflates is not None) is (offer is not None)
        for _ in range(2):
            house.say(call, "y" * 5000)
            assert peer.receive() == "y" * 5000


def test_another_extension_is_not_changed(house: House) -> None:
    """Only permessage-deflate has a context."""

    class Other:
        name = "x-other"

        def process_request_params(self, params: Any, accepted: Any) -> Any:
            raise AssertionError("nobody has offered it")

    def add(wire: Any) -> None:
        other = Other()
        wire.protocol.available_extensions.append(other)
        assert wire.refuse_context_takeover()
        assert vars(other) == {}

    with house.connected(prepare=add, extensions=OFFER) as (peer, _):
        assert "server_no_context_takeover" in (peer.extensions or "")


def test_a_close_before_accept_is_refused_with_403(house: House) -> None:
    """The server sends the response."""

    async def refuse(call: Call) -> None:
        await call.wire.receive()
        await call.wire.deny({"type": "websocket.close"})

    with pytest.raises(Denied) as denied:
        house.dial(refuse)
    assert denied.value.status == 403


def test_a_connection_that_ends_before_accept_is_no_error(house: House) -> None:
    """The handler receives a disconnect with 1006."""

    async def accept_in_vain(call: Call) -> None:
        call.wire.abort()
        await call.accept()
        await call.hear()

    with pytest.raises(Vanished):
        house.dial(accept_in_vain)
    call = house.calls[-1]
    eventually(lambda: call.over)
    assert (call.error, call.end[0], call.wire.is_open()) == (None, 1006, False)


# Pings.


def test_a_pong_that_answers_a_ping_is_reported(house: House) -> None:
    """The server matches pongs to its pings, so an unsolicited one is not reported."""
    with house.connected() as (peer, call):
        peer.pong(b"unasked")
        assert house.do(call.wire.ping, b"beat")
        peer.next_frame()
        eventually(lambda: call.pongs == [b"beat"])


def test_an_unanswered_ping_reports_no_pong_when_the_connection_ends(house: House) -> None:
    """A later ping is ignored."""
    with house.connected(answer_pings=False) as (peer, call):
        assert house.do(call.wire.ping, b"beat")
        assert peer.next_frame().payload == b"beat"
        peer.vanish()
        eventually(lambda: call.wire.lost)
        assert house.do(call.wire.ping, b"late")
    assert call.pongs == []


# The close.


def test_a_close_returns_when_its_frame_has_been_sent(house: House) -> None:
    """The server's own close would wait for the peer and for the end of the TCP connection."""
    with house.connected() as (peer, call):
        house.run(call.wire.close(4000, "done"))
        assert not call.wire.is_open()
        assert call.wire.server_closed()
        close = peer.receive_close()
        assert (close.code, close.reason) == (4000, "done")
        assert peer.ended() == "fin"
        assert peer.after_close() == []


def test_a_close_to_a_departed_peer_returns_at_once(house: House) -> None:
    """No second close frame is sent."""
    with house.connected() as (peer, call):
        peer.close(4001, "bye")
        assert call.end == (4001, "bye")
        house.run(call.wire.close(1000, ""))
        assert peer.receive_close().code == 4001
        assert peer.count(CLOSE) == 1


def test_a_handler_receives_the_peers_close_before_the_peer_ends_tcp(house: House) -> None:
    """The wire ends the TCP connection first; by itself the server would wait for the peer."""
    with house.connected() as (peer, call):
        peer.close(1000)
        assert peer.receive_close(reply=False).code == 1000
        assert peer.ended() == "fin"
        assert call.end[0] == 1000
        assert not call.wire.server_closed()


def test_a_message_over_the_limit_fails_the_connection_with_1009(house: House) -> None:
    """The server itself would report 1006. A peer that does not answer is cut off after a while."""
    with house.connected(prepare=limit) as (peer, call):
        peer.send("x" * 101)
        assert peer.receive_close(reply=False).code == 1009
        assert peer.ended() == "fin"
        assert call.end[0] == 1009
        assert call.texts == []


# Signs of life, and the end.


def test_a_part_of_a_frame_is_a_sign_of_life(house: House) -> None:
    """``partial()`` counts its bytes."""
    with house.connected() as (peer, call):
        assert call.wire.partial() == 0
        data = Frame(TEXT, b"x" * 50).encode()
        peer.send_raw(data[:20])
        before = eventually(call.wire.partial)
        peer.send_raw(data[20:30])
        eventually(lambda: call.wire.partial() == before + 10)


def test_a_finished_wire_keeps_its_protocol_object(house: House) -> None:
    """Tasks of the server may still use the wire."""
    with house.connected() as (peer, call):
        peer.vanish()
        eventually(lambda: call.wire.lost)
    house.do(call.wire.let_go)
    assert call.wire.protocol is call.protocol
