"""Frames: what other implementations read, made once for all peers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from wsstab.core.frames import Block, Deflate, Outgoing, close_frame, frame_for, frame_header
from wsstab.payload import encode

SHORT, LONG = Outgoing("short"), Outgoing("long " * 1000)

LENGTHS = [0, 1, 125, 126, 127, 65535, 65536]


def parsed(data: bytes, deflate_bits: int = 0) -> list[Frame]:
    """What a client of the websockets library makes of what a server sent."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    if deflate_bits:
        client.extensions = [PerMessageDeflate(False, False, deflate_bits, 15)]
    client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("opcode", [1, 2])
def test_a_frame_is_read_by_another_implementation(opcode: int, length: int) -> None:
    """Both sides of each border between the three forms of a length."""
    message = Outgoing("x" * length if opcode == 1 else b"x" * length)
    (frame,) = parsed(message.frame)
    assert (frame.opcode, bytes(frame.data), frame.fin, frame.rsv1) == (opcode, b"x" * length, True, False)


@given(data=st.text(st.characters(exclude_categories=["Cs"])) | st.binary())
def test_several_frames_in_a_row_stay_apart(data: str | bytes) -> None:
    """Corked frames are one write."""
    message = Outgoing(data)
    frames = parsed(message.frame + Outgoing("between").frame + message.frame)
    assert [bytes(frame.data) for frame in frames] == [message.payload, b"between", message.payload]


@pytest.mark.parametrize("length", [*LENGTHS, 100_000])
@pytest.mark.parametrize("window_bits", range(9, 16))
def test_a_deflated_frame_is_read_by_another_implementation(window_bits: int, length: int) -> None:
    """One client inflates it twice with one window that it keeps: nothing refers to what came before."""
    pattern = bytes(range(256)) * (length // 256 + 1)
    message = Outgoing(pattern[:length])
    other = Outgoing("é" * 700)
    data = message.deflated(window_bits) + other.deflated(window_bits) + message.deflated(window_bits)
    frames = parsed(data, window_bits)
    assert [bytes(frame.data) for frame in frames] == [message.payload, other.payload, message.payload]


def test_a_deflated_frame_says_so_and_is_smaller() -> None:
    """RSV1 on the first frame of a message, RFC 7692 section 6."""
    message = Outgoing("spam " * 1000)
    frame = message.deflated(15)
    assert frame[0] == 0x80 | 0x40 | Opcode.TEXT
    assert len(frame) < len(message.frame) / 10


def test_an_empty_deflated_message_is_one_empty_block() -> None:
    """RFC 7692 section 7.2.3.6."""
    assert Outgoing(b"").deflated(15) == b"\xc2\x01\x00"


def test_deflate_uses_the_whole_window_that_was_negotiated() -> None:
    """A repetition 20,000 bytes away is found with 15 bits and out of reach with 9."""
    unlike = bytes(number * number % 251 for number in range(20_000))
    message = Outgoing(unlike[:300] + bytes(19_700) + unlike[:300])
    assert len(message.deflated(15)) < len(message.deflated(9))


@pytest.mark.parametrize("window_bits", [-15, 0, 8, 16])
def test_a_window_zlib_has_not_is_refused(window_bits: int) -> None:
    """A larger window in the place of a smaller one would break the peer."""
    with pytest.raises(ValueError, match="must be 9 to 15"):
        Outgoing("x").deflated(window_bits)


def test_frames_are_made_once() -> None:
    """However many connections a message goes to."""
    message = Outgoing("x" * 100)
    assert message.frame is message.frame
    assert message.deflated(12) is message.deflated(12)
    assert message.deflated(12) is not message.deflated(15)


def test_the_size_of_text_is_its_bytes() -> None:
    """Limits count UTF-8, not characters."""
    message = Outgoing("é😀")
    assert (message.data, message.payload, message.size, message.text) == ("é😀", "é😀".encode(), 6, True)
    assert repr(message) == "<Outgoing [text, 6 bytes]>"


def test_bytes_are_kept_as_they_are() -> None:
    """No copy of what may be large."""
    data = b"x" * 1000
    message = Outgoing(data)
    assert message.payload is data
    assert (message.size, message.text) == (1000, False)
    assert repr(message) == "<Outgoing [binary, 1000 bytes]>"


@pytest.mark.parametrize(
    ("data", "event"),
    [
        ("hi", {"type": "websocket.send", "text": "hi"}),
        (b"hi", {"type": "websocket.send", "bytes": b"hi"}),
    ],
)
def test_the_event_is_new_each_time(data: str | bytes, event: dict[str, Any]) -> None:
    """A middleware that changes what it is given changes it for one peer."""
    message = Outgoing(data)
    assert message.event() == event
    message.event()["type"] = "changed"
    assert message.event() == event


@pytest.mark.parametrize("text", ["\ud800", "ab\udfff", encode({"name": "\ud83d"})])
def test_half_of_a_surrogate_pair_is_refused_with_its_place(text: str) -> None:
    """No peer could read it: text frames are UTF-8."""
    with pytest.raises(ValueError, match=r"half of a surrogate pair .* at index \d+"):
        Outgoing(text)


@pytest.mark.parametrize(
    ("opcode", "length", "rsv1", "header"),
    [
        (1, 0, False, "8100"),
        (2, 125, False, "827d"),
        (1, 126, False, "817e007e"),
        (2, 65535, False, "827effff"),
        (2, 65536, False, "827f0000000000010000"),
        (1, 2**63 - 1, False, "817f7fffffffffffffff"),
        (1, 3, True, "c103"),
        (9, 4, False, "8904"),
        (8, 125, False, "887d"),
    ],
)
def test_a_header_is_that_of_the_specification(opcode: int, length: int, rsv1: bool, header: str) -> None:
    """RFC 6455 section 5.2, by hand; sections 5.7 and 7.2.3 of the RFCs have some of them as examples."""
    assert frame_header(opcode, length, rsv1).hex() == header


@pytest.mark.parametrize(
    ("opcode", "length", "name"),
    [(-1, 0, "opcode"), (16, 0, "opcode"), (1, -1, "length"), (1, 2**63, "length"), (8, 126, "length")],
)
def test_a_frame_that_cannot_be_is_refused(opcode: int, length: int, name: str) -> None:
    """A control frame has at most 125 bytes (RFC 6455 section 5.5)."""
    with pytest.raises(ValueError, match=f"{name}=.*: must be"):
        frame_header(opcode, length)


def test_a_close_frame_has_its_code_and_its_reason() -> None:
    """RFC 6455 section 5.5.1; what does not fit is refused."""
    assert close_frame(1009, "é") == b"\x88\x04\x03\xf1\xc3\xa9"
    with pytest.raises(ValueError, match="length=126"):
        close_frame(1000, "x" * 124)


def test_a_block_counts_its_messages_and_their_bytes() -> None:
    """Payload and not frames, since that is what limits are about."""
    block = Block([SHORT, LONG, Outgoing(b"\x00")])
    assert (block.count, block.size) == (3, 5 + 5000 + 1)


def test_a_block_is_its_frames_in_order() -> None:
    """Joined into one piece for one write."""
    assert Block([SHORT, LONG]).frames() == SHORT.frame + LONG.frame
    assert Block([]).frames() == b""


def test_a_block_is_joined_once_for_all_who_share_it() -> None:
    """The same bytes object for each."""
    block = Block([SHORT, LONG])
    assert block.frames() is block.frames(None)
    assert block.frames(Deflate(12, 1024)) is block.frames(Deflate(12, 1024))


def test_a_block_is_joined_once_for_each_window() -> None:
    """Peers with and without compression share it all the same."""
    block = Block([LONG])
    plain, small, large = block.frames(), block.frames(Deflate(9, 1024)), block.frames(Deflate(15, 1024))
    assert (plain, small, large) == (LONG.frame, LONG.deflated(9), LONG.deflated(15))


def test_short_messages_go_uncompressed_beside_long_ones() -> None:
    """Each message decides for itself."""
    assert Block([SHORT, LONG]).frames(Deflate(12, 1024)) == SHORT.frame + LONG.deflated(12)


@pytest.mark.parametrize("threshold", [1, 1024, 5000])
def test_a_message_is_compressed_from_the_threshold_on_where_it_was_negotiated(threshold: int) -> None:
    """The threshold itself is compressed."""
    below, at = Outgoing("x" * (threshold - 1)), Outgoing("x" * threshold)
    assert frame_for(below, Deflate(12, threshold)) == below.frame
    assert frame_for(at, Deflate(12, threshold)) == at.deflated(12)
    assert frame_for(at, None) == at.frame
