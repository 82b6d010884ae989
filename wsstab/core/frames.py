"""Frames: the bytes in which a message travels to its peers.

A message is encoded once and its frame is built once, however many connections
it goes to. Messages never change after that, and cache their frames for as long
as they are referenced.

All frames are server frames: unmasked, never fragmented (RFC 6455 section 5).
Wires handle control messages and negotiate compression.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from struct import pack
from typing import Any, NamedTuple

__all__ = ["Block", "Deflate", "Outgoing", "close_frame", "frame_for", "frame_header"]

TEXT = 1
BINARY = 2
FIRST_CONTROL = CLOSE = 8
MAX_CONTROL_LENGTH = 125
"""Most bytes of payload in a control frame (RFC 6455 section 5.5)."""
MAX_LENGTH = 2**63 - 1
"""Most bytes of payload in a frame: the most significant bit of a 64-bit length is 0 (RFC 6455 section 5.2)."""

FIN = 0x80
RSV1 = 0x40

WINDOW_BITS = range(9, 16)
"""Window sizes for which zlib can compress. RFC 7692 also allows 8, for which zlib makes streams others cannot read."""
SMALL_WINDOW = 12
"""Up to this window size the compressor gets less memory, as in servers that are configured to save memory."""
EMPTY_BLOCK = b"\x00\x00\xff\xff"
"""What zlib writes at the end of a sync flush."""


def frame_header(opcode: int, length: int, rsv1: bool = False) -> bytes:
    """Build the header of a final, unmasked frame.

    Args:
        opcode: 0 to 15; 8 and above are control frames.
        length: bytes of payload that follow; at most 125 for a control frame.
        rsv1: whether the payload is compressed (RFC 7692 section 6).

    Returns:
        2, 4 or 10 bytes.

    Raises:
        ValueError: no frame has this opcode or length.

    Source: RFC 6455 section 5.2.
    """
    if not 0 <= opcode <= 15:
        raise ValueError(f"opcode={opcode!r}: must be 0 to 15")
    if not 0 <= length <= (MAX_LENGTH if opcode < FIRST_CONTROL else MAX_CONTROL_LENGTH):
        raise ValueError(f"length={length!r}: must be 0 to 125 for a control frame, 0 to 2**63 - 1 for others")
    return _header(opcode | (RSV1 if rsv1 else 0), length)


def close_frame(code: int, reason: str) -> bytes:
    """Build a close frame.

    Args:
        code: close code.
        reason: at most 123 bytes of UTF-8.

    Raises:
        ValueError: the reason is longer.

    Source: RFC 6455 section 5.5.1.
    """
    payload = pack("!H", code) + reason.encode()
    return frame_header(CLOSE, len(payload)) + payload


def _header(opcode: int, length: int) -> bytes:
    # No checks here: every message needs a header, and the payload of one in memory always has a legal length.
    if length < 126:
        return bytes((FIN | opcode, length))
    if length < 65536:
        return pack("!BBH", FIN | opcode, 126, length)
    return pack("!BBQ", FIN | opcode, 127, length)


class Deflate(NamedTuple):
    """How messages to a peer are compressed.

    Each message is compressed with an empty window, whatever was negotiated, so that one frame serves all peers.

    Args:
        window_bits: base-2 logarithm of the negotiated window, 9 to 15.
        threshold: bytes from which a message is compressed; RFC 7692 section 6 allows a choice for each message.
    """

    window_bits: int
    threshold: int


class Outgoing:
    """One message, encoded once and shared by every connection it goes to.

    Args:
        data: the message, as ``encode`` returns it.

    Attributes:
        data: the message as it was given.
        payload: the message in bytes, UTF-8 for text.
        size: length of ``payload``, in bytes.
        text: whether it is a text message.
        count: 1, as a `Block` has several.

    Raises:
        ValueError: text with half of a surrogate pair, which UTF-8 cannot encode.
    """

    __slots__ = ("_deflated", "_frame", "data", "payload", "size", "text")

    count = 1

    def __init__(self, data: str | bytes) -> None:
        self.data = data
        # The payload is encoded here and not on first use, so that an error reaches the caller and no later writer.
        if isinstance(data, str):
            self.text = True
            try:
                self.payload = data.encode()
            except UnicodeEncodeError as error:
                raise _no_utf8(data, error) from None
        else:
            self.text = False
            self.payload = data
        self.size = len(self.payload)
        self._frame: bytes | None = None
        self._deflated: dict[int, bytes] | None = None

    def __repr__(self) -> str:
        return f"<Outgoing [{'text' if self.text else 'binary'}, {self.size} bytes]>"

    @property
    def messages(self) -> tuple[Outgoing]:
        """The message itself, as a `Block` has several."""
        return (self,)

    @property
    def frame(self) -> bytes:
        """The message as a complete frame, built on first use."""
        frame = self._frame
        if frame is None:
            frame = self._frame = _header(TEXT if self.text else BINARY, self.size) + self.payload
        return frame

    def event(self) -> dict[str, Any]:
        """The message as an ASGI event; a new one each time, because the receiver may change it."""
        return {"type": "websocket.send", "text" if self.text else "bytes": self.data}

    def deflated(self, window_bits: int) -> bytes:
        """The message as a complete permessage-deflate frame, built on first use for each window size.

        Each message starts with an empty window, so that one frame serves all peers, whatever
        they received before and whether or not they keep their window.

        Args:
            window_bits: base-2 logarithm of the negotiated window, 9 to 15.

        Raises:
            ValueError: zlib does not support this window size.

        Source: RFC 7692 section 7.2.1.
        """
        if self._deflated is None:
            self._deflated = {}
        frame = self._deflated.get(window_bits)
        if frame is None:
            compressed = _deflate(self.payload, window_bits)
            frame = frame_header(self._opcode, len(compressed), rsv1=True) + compressed
            self._deflated[window_bits] = frame
        return frame

    @property
    def _opcode(self) -> int:
        return TEXT if self.text else BINARY


class Block:
    """Messages that go to many peers in one write: joined once, shared by all.

    Args:
        messages: the messages, in order.

    Attributes:
        messages: the messages, in order.
        count: number of messages.
        size: their total payload, in bytes.
    """

    __slots__ = ("_joined", "count", "messages", "size")

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self.messages = messages
        self.count = len(messages)
        self.size = sum(message.size for message in messages)
        self._joined: dict[Deflate | None, bytes] = {}

    def frames(self, deflate: Deflate | None = None) -> bytes:
        """All frames, joined.

        Args:
            deflate: how messages to the peer are compressed; ``None`` for not at all.
        """
        joined = self._joined.get(deflate)
        if joined is None:
            joined = b"".join([frame_for(message, deflate) for message in self.messages])
            self._joined[deflate] = joined
        return joined


def frame_for(message: Outgoing, deflate: Deflate | None) -> bytes:
    """The frame of ``message`` for a peer with this compression; ``None`` for no compression."""
    if deflate is not None and message.size >= deflate.threshold:
        return message.deflated(deflate.window_bits)
    return message.frame


def _no_utf8(text: str, error: UnicodeEncodeError) -> ValueError:
    half = text[error.start]
    return ValueError(f"text with half of a surrogate pair ({half!r} at index {error.start}): not UTF-8")


def _deflate(payload: bytes, window_bits: int) -> bytes:
    if window_bits not in WINDOW_BITS:
        raise ValueError(f"window_bits={window_bits!r}: must be 9 to 15")
    memory_level = 5 if window_bits <= SMALL_WINDOW else 8
    # Negative window bits make zlib write a raw stream, without header and checksum, as RFC 7692 section 7.2.1
    # requires.
    compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -window_bits, memory_level)
    compressed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    # A sync flush ends with an empty block, which the sender removes and the receiver appends again (section 7.2.1).
    return compressed.removesuffix(EMPTY_BLOCK)
