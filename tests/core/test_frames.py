"""Frames: other implementations can read them, and they are made once for all peers."""

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
    """The frames that a client of the websockets library reads from the bytes of a server."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    if deflate_bits:
        client.extensions = [PerMessageDeflate(False, False, deflate_bits, 15)]
    client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("opcode", [1, 2])
def test_another_implementation_reads_our_frames(opcode: int, length: int) -> None:
    """The lengths lie on both sides of each limit between the three forms of a length field."""
    message = Outgoing("x" * length if opcode == 1 else b"x" * length)
    (frame,) = parsed(message.frame)
    assert (frame.opcode, bytes(frame.data), frame.fin, frame.rsv1) == (opcode, b"x" * length, True, False)


@given(data=st.text(st.characters(exclude_categories=["Cs"])) | st.binary())
def test_frames_joined_into_one_write_stay_separate(data: str | bytes) -> None:
    """Corked frames leave in one write."""
    message = Outgoing(data)
    frames = parsed(message.frame + Outgoing("between").frame + message.frame)
    assert [bytes(frame.data) for frame in frames] == [message.payload, b"between", message.payload]


@pytest.mark.parametrize("length", [*LENGTHS, 100_000])
@pytest.mark.parametrize("window_bits", range(9, 16))
def test_another_implementation_reads_our_deflated_frames(window_bits: int, length: int) -> None:
    """The client keeps its window from frame to frame, and the same frame comes twice: none refers to earlier data."""
    pattern = bytes(range(256)) * (length // 256 + 1)
    message = Outgoing(pattern[:length])
    other = Outgoing("é" * 700)
    data = message.deflated(window_bits) + other.deflated(window_bits) + message.deflated(window_bits)
    frames = parsed(data, window_bits)
    assert [bytes(frame.data) for frame in frames] == [message.payload, other.payload, message.payload]


def test_a_deflated_frame_has_rsv1_set_and_is_smaller() -> None:
    """RFC 7692 section 6 requires RSV1 on the first frame of a compressed message."""
    message = Outgoing("spam " * 1000)
    frame = message.deflated(15)
    assert frame[0] == 0x80 | 0x40 | Opcode.TEXT
    assert len(frame) < len(message.frame) / 10


def test_an_empty_deflated_message_is_one_empty_block() -> None:
    """RFC 7692 section 7.2.3.6 gives these bytes."""
    assert Outgoing(b"").deflated(15) == b"\xc2\x01\x00"


def test_deflate_uses_the_whole_negotiated_window() -> None:
    """A repetition 20,000 bytes away is within a window of 15 bits and out of reach with 9."""
    unlike = bytes(number * number % 251 for number in range(20_000))
    message = Outgoing(unlike[:300] + bytes(19_700) + unlike[:300])
    assert len(message.deflated(15)) < len(message.deflated(9))


@pytest.mark.parametrize("window_bits", [-15, 0, 8, 16])
def test_a_window_size_that_zlib_does_not_support_is_refused(window_bits: int) -> None:
    """To use a larger window instead would break the peer."""
    with pytest.raises(ValueError, match="must be 9 to 15"):
        Outgoing("x").deflated(window_bits)


def test_each_frame_of_a_message_is_made_once() -> None:
    """It is shared by all connections that the message goes to; each window size has one of its own."""
    message = Outgoing("x" * 100)
    assert message.frame is message.frame
    assert message.deflated(12) is message.deflated(12)
    assert message.deflated(12) is not message.deflated(15)


def test_the_size_of_text_is_its_length_in_bytes() -> None:
    """Limits count bytes of UTF-8, not characters."""
    message = Outgoing("é😀")
    assert (message.data, message.payload, message.size, message.text) == ("é😀", "é😀".encode(), 6, True)
    assert repr(message) == "<Outgoing [text, 6 bytes]>"


def test_binary_data_is_not_copied() -> None:
    """It may be large."""
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
def test_each_call_returns_a_new_event(data: str | bytes, event: dict[str, Any]) -> None:
    """A middleware that changes the event changes it for one peer only."""
    message = Outgoing(data)
    assert message.event() == event
    message.event()["type"] = "changed"
    assert message.event() == event


@pytest.mark.parametrize("text", ["\ud800", "ab\udfff", encode({"name": "\ud83d"})])
def test_half_of_a_surrogate_pair_is_refused_with_its_index(text: str) -> None:
    """Text frames are UTF-8, so no peer could read it."""
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
def test_frame_headers_follow_the_specification(opcode: int, length: int, rsv1: bool, header: str) -> None:
    """The bytes are worked out by hand from RFC 6455 section 5.2; some are examples in section 5.7 and in RFC 7692."""
    assert frame_header(opcode, length, rsv1).hex() == header


@pytest.mark.parametrize(
    ("opcode", "length", "name"),
    [(-1, 0, "opcode"), (16, 0, "opcode"), (1, -1, "length"), (1, 2**63, "length"), (8, 126, "length")],
)
def test_an_impossible_frame_is_refused(opcode: int, length: int, name: str) -> None:
    """A control frame has at most 125 bytes (RFC 6455 section 5.5)."""
    with pytest.raises(ValueError, match=f"{name}=.*: must be"):
        frame_header(opcode, length)


def test_a_close_frame_contains_its_code_and_reason() -> None:
    """RFC 6455 section 5.5.1 gives the format; a reason that does not fit is refused."""
    assert close_frame(1009, "é") == b"\x88\x04\x03\xf1\xc3\xa9"
    with pytest.raises(ValueError, match="length=126"):
        close_frame(1000, "x" * 124)


def test_a_message_is_counted_as_a_block_of_one() -> None:
    """A session keeps single messages and blocks alike."""
    message = Outgoing("hello")
    assert (message.count, message.messages, message.size) == (1, (message,), 5)


def test_a_block_counts_its_messages_and_payload_bytes() -> None:
    """Frame headers do not count, because limits are about payload."""
    block = Block([SHORT, LONG, Outgoing(b"\x00")])
    assert (block.count, block.size) == (3, 5 + 5000 + 1)


def test_a_block_joins_its_frames_in_order() -> None:
    """The result is one piece for one write."""
    assert Block([SHORT, LONG]).frames() == SHORT.frame + LONG.frame
    assert Block([]).frames() == b""


def test_a_block_is_joined_once_for_all_peers_that_share_it() -> None:
    """Each of them gets the same bytes object."""
    block = Block([SHORT, LONG])
    assert block.frames() is block.frames(None)
    assert block.frames(Deflate(12, 1024)) is block.frames(Deflate(12, 1024))


def test_a_block_is_joined_separately_for_each_window_size() -> None:
    """Peers with and without compression can share one block."""
    block = Block([LONG])
    plain, small, large = block.frames(), block.frames(Deflate(9, 1024)), block.frames(Deflate(15, 1024))
    assert (plain, small, large) == (LONG.frame, LONG.deflated(9), LONG.deflated(15))


def test_a_block_compresses_its_long_messages_only() -> None:
    """The threshold is applied to each message, not to the block."""
    assert Block([SHORT, LONG]).frames(Deflate(12, 1024)) == SHORT.frame + LONG.deflated(12)


@pytest.mark.parametrize("threshold", [1, 1024, 5000])
def test_negotiated_compression_applies_from_the_threshold_on(threshold: int) -> None:
    """A message exactly as long as the threshold is compressed; nothing is, where no compression was negotiated."""
    below, at = Outgoing("x" * (threshold - 1)), Outgoing("x" * threshold)
    assert frame_for(below, Deflate(12, threshold)) == below.frame
    assert frame_for(at, Deflate(12, threshold)) == at.deflated(12)
    assert frame_for(at, None) == at.frame
