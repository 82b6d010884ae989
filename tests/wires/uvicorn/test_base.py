"""The common part of the wires to uvicorn, on the two implementations that run no tasks of their own."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from tests.support.peer import Denied, Vanished
from tests.support.waiting import eventually
from tests.wires.uvicorn.house import OFFER, Call, House, house_of, listen
from wsstab.types import Event, Send
from wsstab.wires.transport import DEPARTED
from wsstab.wires.uvicorn.base import UvicornWire, lower, window_bits


@pytest.fixture(scope="module", params=["websockets-sansio", "wsproto"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    """A server with frequent pings of its own."""
    with house_of(request.param, ws_ping_interval=0.05) as running:
        yield running


def take_over(wire: Any) -> Any:
    """Take over the keepalive."""
    wire.take_over_keepalive()


# The keepalive.


def test_every_pong_is_reported_once_the_wire_owns_the_keepalive(house: House) -> None:
    """Even an unsolicited one; the heartbeat knows the payload of its own ping."""
    with house.connected(prepare=take_over) as (peer, call):
        assert house.do(call.wire.ping, b"beat")
        assert peer.next_frame().payload == b"beat"
        peer.pong(b"unasked")
        eventually(lambda: call.pongs == [b"beat", b"unasked"])


def test_the_server_stops_pinging_once_the_wire_owns_the_keepalive(house: House) -> None:
    """Its interval is kept, so that our heartbeat can use the same one."""
    with house.connected(prepare=take_over) as (_, call):
        assert call.wire.server_ping_interval == 0.05
        assert (call.protocol.ping_interval, call.protocol.ping_timer) == (None, None)


def test_a_keepalive_that_the_wire_does_not_take_over_goes_on(house: House) -> None:
    """The server gets the pong that it waits for and pings again; the wire does not report it."""
    with house.connected() as (peer, call):
        peer.read_until(lambda frames: len(frames) == 3)
        assert call.pongs == []


# The handshake.


def test_a_close_before_accept_is_refused_with_403(house: House) -> None:
    """The server sends the response."""

    async def refuse(call: Call) -> None:
        await call.wire.receive()
        await call.wire.deny({"type": "websocket.close"})

    with pytest.raises(Denied) as denied:
        house.dial(refuse)
    assert denied.value.status == 403


def test_an_accept_that_does_not_reach_the_server_is_an_error(house: House) -> None:
    """Otherwise frames of ours would precede the server's answer to the handshake."""
    send = AsyncMock()
    with pytest.raises(Denied) as denied:
        house.dial(prepare=lambda wire: wire.announce_to(send))
    assert denied.value.status == 500
    send.assert_awaited_once_with({"type": "websocket.accept"})
    assert isinstance(house.calls[-1].error, RuntimeError)
    assert "websocket.accept has not reached uvicorn" in str(house.calls[-1].error)


def test_a_connection_that_ends_before_accept_is_no_error(house: House) -> None:
    """The server cannot answer the handshake any more."""

    async def accept_in_vain(call: Call) -> None:
        call.wire.abort()
        await call.accept()

    with pytest.raises(Vanished):
        house.dial(accept_in_vain)
    call = house.calls[-1]
    eventually(lambda: call.over)
    assert call.error is None
    assert not call.wire.is_open()


# Data in both directions.


def test_the_shortcut_is_the_transport_of_the_server(house: House) -> None:
    """It comes with the negotiated compression."""
    with house.connected(prepare=compress, extensions=OFFER) as (peer, call):
        transport, deflates = call.wire.shortcut()
        assert transport is call.protocol.transport
        assert deflates is call.wire.deflates
        assert deflates is not None
        house.say(call, "x" * 5000)
        assert peer.receive() == "x" * 5000
        assert peer.frames[-1].reserved == 4


def compress(wire: Any) -> None:
    """Compress all but the smallest messages."""
    take_over(wire)
    wire.compress_from = 64


def test_reading_is_paused_while_the_handler_does_not_receive(house: House) -> None:
    """Silence of the peer then proves nothing."""

    async def receive_when_told(call: Call) -> None:
        await call.accept()
        await call.step.wait()
        while (await call.hear())["type"] == "websocket.receive":
            pass

    with house.connected(receive_when_told, take_over) as (peer, call):
        assert not call.wire.reading_paused()
        peer.send("unread")
        eventually(call.wire.reading_paused)
        house.go_on(call)
        eventually(lambda: not call.wire.reading_paused())
        assert call.texts == ["unread"]


# The close.


def test_a_close_goes_behind_the_data_of_a_stalled_peer_without_waiting(house: House) -> None:
    """The server's own send would wait for the peer."""
    with house.connected(prepare=take_over, receive_buffer=4096) as (peer, call):
        text = "x" * 1_000_000
        sent = 0
        while call.wire.writable:
            house.say(call, text)
            sent += 1
        house.run(call.wire.close(4000, "done"))
        assert not call.wire.is_open()
        assert peer.receive_many(sent) == [text] * sent
        close = peer.receive_close()
        assert (close.code, close.reason) == (4000, "done")


def test_a_close_to_a_departed_peer_raises_a_connection_error(house: House) -> None:
    """The error must not look like a mistake of the application."""
    with house.connected(prepare=take_over) as (peer, call):
        peer.close()
        assert call.end == (1000, "")
        with pytest.raises(ConnectionResetError, match="the peer has left"):
            house.run(call.wire.close(1000, ""))


def failing(send: Send) -> Send:
    """An observer that raises at each close."""

    async def observer(event: Event) -> None:
        if event["type"] == "websocket.close":
            raise LookupError("the observer")
        await send(event)

    return observer


def test_a_failing_observer_does_not_prevent_a_close(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged."""
    with house.connected(prepare=lambda wire: wire.announce_to(failing(wire._send))) as (peer, call):
        house.run(call.wire.close(4000, "done"))
        assert peer.receive_close().code == 4000
    assert "an observer failed at a close" in caplog.text


def test_the_error_of_an_observer_is_raised_if_the_connection_has_ended(house: House) -> None:
    """No close frame can be sent any more."""

    def cut_and_fail(wire: Any) -> None:
        async def observer(event: Event) -> None:
            if event["type"] == "websocket.close":
                wire.abort()
                raise LookupError("the observer")
            await send(event)

        send = wire._send
        wire.announce_to(observer)

    with house.connected(prepare=cut_and_fail) as (peer, call):
        with pytest.raises(LookupError, match="the observer"):
            house.run(call.wire.close(1000, ""))
        assert peer.ended() == "fin"


def test_a_second_close_raises_the_error_of_the_server(house: House) -> None:
    """Closing twice is a mistake of ours."""
    with house.connected(prepare=take_over) as (peer, call):
        house.run(call.wire.close(1000, ""))
        # Older versions have ended the connection by then, and report that.
        with pytest.raises((RuntimeError, ConnectionResetError), match=r"Unexpected ASGI message|the peer has left"):
            house.run(call.wire.close(1000, ""))
        peer.receive_close()


# The end.


def test_a_finished_wire_does_not_refer_to_the_server(house: House) -> None:
    """Such references would form a cycle that only the garbage collector frees."""
    with house.connected(listen, take_over) as (peer, call):
        peer.vanish()
        eventually(lambda: call.wire.protocol is DEPARTED)
    assert call.wire.lost
    assert not call.wire.is_open()
    assert not any(each is call.protocol for each in (call.wire.transport, call.wire._flow))
    for ended in (call.wire.receive, lambda: call.wire._send({})):
        with pytest.raises(ConnectionResetError, match="the connection is over"):
            house.run(ended())


# Helpers.


@pytest.mark.parametrize(
    ("current", "smaller", "after"), [(None, None, 100), (200, None, 100), (100, None, 100), (50, 50, 50)]
)
def test_the_smaller_message_limit_wins(current: int | None, smaller: int | None, after: int) -> None:
    """A smaller limit of the server is returned and stays."""
    owner = SimpleNamespace(max_size=current)
    assert lower(owner, "max_size", 100) == smaller
    assert owner.max_size == after


def test_window_bits_are_those_of_the_deflate_extension() -> None:
    """Other extensions have no window."""
    other = SimpleNamespace(name="x-other")
    assert window_bits([]) == window_bits([other]) == 0
    assert window_bits([other, SimpleNamespace(name="permessage-deflate", local_max_window_bits=12)]) == 12


def test_the_base_class_does_not_know_the_negotiated_window() -> None:
    """Each implementation keeps it elsewhere."""
    wire = UvicornWire(SimpleNamespace(transport=None), AsyncMock(), AsyncMock())
    with pytest.raises(NotImplementedError):
        wire._negotiated_bits()
