"""The wire to uvicorn's default implementation."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.frames import CLOSE, PONG, TEXT, Frame
from tests.support.peer import Denied
from tests.support.waiting import eventually
from tests.wires.uvicorn.house import OFFER, Call, House, house_of, listen
from wsstab.wires.uvicorn.sansio import SansioWire, without_contexts

BROKEN = Frame(TEXT, b"x", reserved=2).encode()
"""A frame with a reserved bit that was not negotiated."""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A server with this implementation."""
    with house_of("websockets-sansio") as running:
        yield running


def limit(wire: Any) -> None:
    """Allow no message over 100 bytes."""
    assert wire.limit_message_size(100) is None


# Pings.


def test_a_ping_is_answered_until_our_close(house: House) -> None:
    """Nothing may follow a close frame."""
    with house.connected() as (peer, call):
        assert isinstance(call.wire, SansioWire)
        peer.ping(b"one")
        assert peer.next_frame().payload == b"one"
        house.run(call.wire.close(1000, ""))
        peer.ping(b"two")
        peer.receive_close()
        assert peer.ended() == "fin"
        assert (peer.count(PONG), peer.after_close()) == (1, [])


# A peer that breaks the protocol.


def test_a_message_over_the_limit_fails_the_connection_with_1009(house: House) -> None:
    """With our reason, because the library's own one depends on the frames; later data is discarded."""
    with house.connected(prepare=limit) as (peer, call):
        peer.send("x" * 100)
        eventually(lambda: call.texts == ["x" * 100])
        peer.send("x" * 101)
        close = peer.receive_close(reply=False)
        assert (close.code, close.reason) == (1009, "message too big")
        peer.send("late")
        assert peer.ended() == "fin"
        assert call.end[0] == 1009
        assert call.texts == ["x" * 100]
        assert not call.wire.is_open()


def test_a_protocol_error_is_a_close_by_the_server(house: House) -> None:
    """The connection lingers, so that the peer can read why it ends."""
    with house.connected(wait_and_listen) as (peer, call):
        assert not call.wire.server_closed()
        told: list[bool] = []
        call.wire.on_writable = lambda: told.append(call.wire.is_open())
        peer.send_raw(BROKEN)
        assert peer.receive_close(reply=False).code == 1002
        assert house.do(call.wire.server_closed)
        # Code that writes past the wire checks again, and finds it closed.
        assert told == [False]
        assert call.protocol.close_sent
        house.do(call.wire.fail_gently)
        house.go_on(call)
        assert peer.ended() == "fin"
        assert peer.count(CLOSE) == 1


async def wait_and_listen(call: Call) -> None:
    """Accept, and begin to receive when told to."""
    await call.accept()
    await call.step.wait()
    while (await call.hear())["type"] == "websocket.receive":
        pass


def test_text_that_is_not_utf8_fails_the_connection_with_1007(house: House) -> None:
    """The server finds the error, not its parser."""
    with house.connected() as (peer, call):
        peer.send_frame(TEXT, b"\xff")
        assert peer.receive_close().code == 1007
        assert call.end[0] == 1007


def test_a_message_before_a_broken_frame_in_one_segment_is_delivered(house: House) -> None:
    """A ping before it is answered too, and the handler's reply goes out before the close frame."""

    async def echo(call: Call) -> None:
        await call.accept()
        while (event := await call.hear())["type"] == "websocket.receive":
            call.wire.transport.write(Frame(TEXT, event["text"].encode()).encode(masked=False))

    with house.connected(echo) as (peer, call):
        peer.send_raw(Frame(TEXT, b"before").encode() + Frame(9, b"ping").encode() + BROKEN)
        peer.receive_close()
        assert [frame.opcode for frame in peer.frames] == [PONG, TEXT, CLOSE]
        assert (call.texts, call.end[0]) == (["before"], 1002)


def test_a_broken_frame_hides_an_earlier_text_that_is_not_utf8(house: House) -> None:
    """The parser finds the broken frame before the server decodes the text; only one close frame is sent."""
    with house.connected() as (peer, call):
        peer.send_raw(Frame(TEXT, b"\xff").encode() + BROKEN)
        assert peer.receive_close().code == 1002
        assert call.end[0] == 1002
        assert peer.count(CLOSE) == 1


def test_reading_resumes_when_a_connection_fails(house: House) -> None:
    """An unread message has paused it; with unread data the kernel would send a reset."""
    with house.connected(wait_and_listen) as (peer, call):
        peer.send_raw(Frame(TEXT, b"unread").encode() + BROKEN)
        assert peer.receive_close(reply=False).code == 1002
        eventually(call.wire.transport.is_reading)
        assert not call.wire.reading_paused()
        house.go_on(call)
        assert peer.ended() == "fin"
        assert (call.texts, call.end[0]) == (["unread"], 1002)


def test_a_protocol_error_replaces_the_close_of_the_handler(house: House) -> None:
    """The handler cannot know of the error yet; only one close frame is sent, and it gives the error."""

    async def close_at_once(call: Call) -> None:
        await call.accept()
        await call.hear()
        await call.wire.close(4000, "")
        await call.hear()

    with house.connected(close_at_once) as (peer, call):
        peer.send_raw(Frame(TEXT, b"bye").encode() + BROKEN)
        assert peer.receive_close().code == 1002
        assert peer.ended() == "fin"
        assert peer.count(CLOSE) == 1
        assert call.end[0] == 1002


def test_nothing_is_written_if_a_failing_connection_is_aborted(house: House) -> None:
    """A handler may abort in the same turn of the loop; it still receives the error's close code."""

    async def abort_at_once(call: Call) -> None:
        await call.accept()
        await call.hear()
        call.wire.abort()
        await call.hear()

    with house.connected(abort_at_once) as (peer, call):
        peer.send_raw(Frame(TEXT, b"bye").encode() + BROKEN)
        assert peer.ended() == "fin"
        assert peer.frames == []
        assert call.end[0] == 1002


@pytest.mark.parametrize("can_end", [False, OSError("not connected")], ids=["over TLS", "reset by the peer"])
def test_a_failed_connection_ends_even_without_a_half_close(
    house: House, can_end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close frame still goes out."""

    def write_eof() -> None:
        raise can_end

    with house.connected() as (peer, call):
        transport = call.wire.transport
        if can_end:
            monkeypatch.setattr(transport, "write_eof", write_eof)
        else:
            monkeypatch.setattr(transport, "can_write_eof", lambda: False)
        peer.send_raw(BROKEN)
        assert peer.receive_close().code == 1002
        assert call.end[0] == 1002
        # Without a half close, the system may send a reset because of unread data.
        assert peer.ended() in ("fin", "rst")


# The handshake.


def test_a_refusal_with_a_body_logs_no_missing_handshake(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The server forgets that it has answered, and would log that it has not."""

    async def refuse(call: Call) -> None:
        await call.wire.receive()
        await call.wire.deny({"type": "websocket.http.response.start", "status": 418})
        for body, more in ((b"short and ", True), (b"stout", False)):
            assert not call.protocol.handshake_complete
            await call.wire.deny({"type": "websocket.http.response.body", "body": body, "more_body": more})

    with pytest.raises(Denied) as denied:
        house.dial(refuse)
    assert (denied.value.status, denied.value.answer.body) == (418, b"short and stout")
    eventually(lambda: house.calls[-1].over)
    assert house.calls[-1].error is None
    assert "without completing handshake" not in caplog.text


@pytest.mark.parametrize("offer", [OFFER, None])
def test_compression_can_be_refused(house: House, offer: str | None) -> None:
    """The server has negotiated it by then, but has not sent its answer."""
    with house.connected(prepare=lambda wire: wire.refuse_compression(), extensions=offer) as (peer, call):
        assert peer.extensions is None
        assert (call.protocol.conn.extensions, call.wire.deflates) == ([], None)


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


def test_another_extension_is_not_changed() -> None:
    """Only permessage-deflate has a context."""
    other = SimpleNamespace(name="x-other")
    assert without_contexts(other) is other


# Signs of life.


def test_a_part_of_a_frame_is_a_sign_of_life(house: House) -> None:
    """``partial()`` counts its bytes."""
    with house.connected(listen) as (peer, call):
        assert call.wire.partial() == 0
        data = Frame(TEXT, b"x" * 50).encode()
        peer.send_raw(data[:20])
        before = eventually(call.wire.partial)
        peer.send_raw(data[20:30])
        eventually(lambda: call.wire.partial() == before + 10)
    assert (call.wire.partial(), call.wire.server_closed()) == (0, False)


def test_a_fragment_is_a_sign_of_life_until_its_message_is_complete(house: House) -> None:
    """It counts although its frame is complete."""
    with house.connected() as (peer, call):
        peer.send_frame(TEXT, b"x" * 50, fin=False)
        eventually(lambda: call.wire.partial() == 50)
        peer.send_frame(0, b"")
        eventually(lambda: call.texts == ["x" * 50])
        assert call.wire.partial() == 0
