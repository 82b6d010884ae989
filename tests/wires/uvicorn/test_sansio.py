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
"""A frame with a reserved bit that nobody has negotiated."""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A server."""
    with house_of("websockets-sansio") as running:
        yield running


def limit(wire: Any) -> None:
    """No message over 100 bytes."""
    assert wire.limit_message_size(100) is None


# Pings


def test_a_ping_is_answered_until_we_close(house: House) -> None:
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


# A peer that breaks the rules


def test_a_message_over_the_limit_fails_the_connection(house: House) -> None:
    """In our words; the library's tell how the frames were cut. What comes after is discarded."""
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


def test_a_failed_connection_is_the_server_s_close(house: House) -> None:
    """And lingers, so that the peer can read why."""
    with house.connected(wait_and_listen) as (peer, call):
        assert not call.wire.server_closed()
        told: list[bool] = []
        call.wire.on_writable = lambda: told.append(call.wire.is_open())
        peer.send_raw(BROKEN)
        assert peer.receive_close(reply=False).code == 1002
        assert house.do(call.wire.server_closed)
        # Whoever writes past the wire looks again, and finds it closed.
        assert told == [False]
        assert call.protocol.close_sent
        house.do(call.wire.fail_gently)
        house.go_on(call)
        assert peer.ended() == "fin"
        assert peer.count(CLOSE) == 1


async def wait_and_listen(call: Call) -> None:
    """Accept, and look at what came when told to."""
    await call.accept()
    await call.step.wait()
    while (await call.hear())["type"] == "websocket.receive":
        pass


def test_text_that_is_none_fails_the_connection(house: House) -> None:
    """The server finds it, not its parser."""
    with house.connected() as (peer, call):
        peer.send_frame(TEXT, b"\xff")
        assert peer.receive_close().code == 1007
        assert call.end[0] == 1007


def test_what_came_before_in_the_same_segment_reaches_the_handler(house: House) -> None:
    """A ping among it is answered, and what the handler says to it goes out before the close frame."""

    async def echo(call: Call) -> None:
        await call.accept()
        while (event := await call.hear())["type"] == "websocket.receive":
            call.wire.transport.write(Frame(TEXT, event["text"].encode()).encode(masked=False))

    with house.connected(echo) as (peer, call):
        peer.send_raw(Frame(TEXT, b"before").encode() + Frame(9, b"ping").encode() + BROKEN)
        peer.receive_close()
        assert [frame.opcode for frame in peer.frames] == [PONG, TEXT, CLOSE]
        assert (call.texts, call.end[0]) == (["before"], 1002)


def test_text_that_is_none_before_a_broken_frame_is_passed_over(house: House) -> None:
    """One failure is told."""
    with house.connected() as (peer, call):
        peer.send_raw(Frame(TEXT, b"\xff").encode() + BROKEN)
        assert peer.receive_close().code == 1002
        assert call.end[0] == 1002
        assert peer.count(CLOSE) == 1


def test_a_failing_connection_is_read_from_again(house: House) -> None:
    """An unread message has paused it; with data unread the kernel would send a reset."""
    with house.connected(wait_and_listen) as (peer, call):
        peer.send_raw(Frame(TEXT, b"unread").encode() + BROKEN)
        assert peer.receive_close(reply=False).code == 1002
        eventually(call.wire.transport.is_reading)
        assert not call.wire.reading_paused()
        house.go_on(call)
        assert peer.ended() == "fin"
        assert (call.texts, call.end[0]) == (["unread"], 1002)


def test_a_close_of_ours_gives_way_to_the_failure(house: House) -> None:
    """The handler cannot know yet that the connection fails; one close frame says why."""

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


def test_nothing_is_written_to_who_is_cut_off_while_failing(house: House) -> None:
    """A handler may do that in the same turn of the loop; it still learns of the failure."""

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


@pytest.mark.parametrize("can_end", [False, OSError("not connected")], ids=["over TLS", "the peer has reset it"])
def test_an_end_that_cannot_be_told_hinders_nothing(
    house: House, can_end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close frame goes out all the same, and the connection ends."""

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
        # Without an end of ours the system may send a reset, for what is left unread.
        assert peer.ended() in ("fin", "rst")


# The handshake


def test_a_refusal_with_a_body_is_no_error(house: House, caplog: pytest.LogCaptureFixture) -> None:
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
    """The server has negotiated it by then, but has not said so."""
    with house.connected(prepare=lambda wire: wire.refuse_compression(), extensions=offer) as (peer, call):
        assert peer.extensions is None
        assert (call.protocol.conn.extensions, call.wire.deflates) == ([], None)


@pytest.mark.parametrize("offer", [OFFER, None])
def test_context_takeover_can_be_refused(house: House, offer: str | None) -> None:
    """For both directions; who offers nothing gets nothing."""

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


def test_another_extension_is_left_alone() -> None:
    """Only permessage-deflate has contexts."""
    other = SimpleNamespace(name="x-other")
    assert without_contexts(other) is other


# What is known


def test_a_part_of_a_message_is_a_sign_of_life(house: House) -> None:
    """Bytes of a frame, and whole frames of a message."""
    with house.connected(listen) as (peer, call):
        assert call.wire.partial() == 0
        data = Frame(TEXT, b"x" * 50).encode()
        peer.send_raw(data[:20])
        before = eventually(call.wire.partial)
        peer.send_raw(data[20:30])
        eventually(lambda: call.wire.partial() == before + 10)
    assert (call.wire.partial(), call.wire.server_closed()) == (0, False)


def test_a_fragment_counts_too(house: House) -> None:
    """Until its message is complete."""
    with house.connected() as (peer, call):
        peer.send_frame(TEXT, b"x" * 50, fin=False)
        eventually(lambda: call.wire.partial() == 50)
        peer.send_frame(0, b"")
        eventually(lambda: call.texts == ["x" * 50])
        assert call.wire.partial() == 0
