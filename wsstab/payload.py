"""Outgoing messages: what may be sent, and the frames that it becomes.

A message is encoded once and its frame is made once, however many connections
it goes to. What is here never changes afterwards, and keeps what it has made
for as long as anyone holds the message.

Frames are those of a server: unmasked, never fragmented (RFC 6455 section 5).
Control messages and the negotiation of compression are the wires' business.
"""

from __future__ import annotations

import zlib
from json import dumps
from struct import pack
from typing import Any, Protocol, TypeAlias

__all__ = ["Model", "Outgoing", "Payload", "close_frame", "encode", "frame_header"]

TEXT = 1
BINARY = 2
FIRST_CONTROL = CLOSE = 8
MAX_CONTROL_LENGTH = 125
"""RFC 6455 section 5.5."""
MAX_LENGTH = 2**63 - 1
"""RFC 6455 section 5.2: the most significant bit of a 64-bit length is 0."""

FIN = 0x80
RSV1 = 0x40

WINDOW_BITS = range(9, 16)
"""Windows zlib can compress with. RFC 7692 also has 8, for which zlib makes streams that others cannot read."""
SMALL_WINDOW = 12
"""Windows up to this one come with less memory for the compressor, as servers do that care for memory."""
EMPTY_BLOCK = b"\x00\x00\xff\xff"


class Model(Protocol):
    """What turns itself into JSON text: a pydantic model, version 2."""

    def model_dump_json(self) -> str:
        """The model as JSON."""
        ...


Payload: TypeAlias = str | bytes | bytearray | memoryview | dict[str, Any] | list[Any] | tuple[Any, ...] | Model
"""What may be sent: text, binary data, or something that becomes JSON text."""


def encode(message: Payload) -> str | bytes:
    """A message as text or as binary data.

    Args:
        message: text and bytes stay what they are, ``bytearray`` and ``memoryview`` become bytes,
            ``dict``, ``list`` and ``tuple`` become the JSON text that Starlette's ``send_json``
            makes, a pydantic model becomes its own.

    Returns:
        ``str`` for a text message, ``bytes`` for a binary one.

    Raises:
        TypeError: anything else, or something within a ``dict`` or ``list`` that JSON does not have.
        ValueError: a ``dict`` or ``list`` that contains itself.
    """
    if isinstance(message, str):
        # Not str(message): an enum that is a str would give its name.
        return str.__str__(message)
    if isinstance(message, bytes):
        return message
    if isinstance(message, (bytearray, memoryview)):
        return bytes(message)
    if isinstance(message, (dict, list, tuple)):
        return dumps(message, separators=(",", ":"), ensure_ascii=False)
    return _encode_model(message)


def _encode_model(message: Model) -> str:
    # Looked up on the class: a test double has every attribute, and a class is not a model.
    to_json = getattr(type(message), "model_dump_json", None)
    if to_json is None:
        raise TypeError(
            "a message must be str, bytes, bytearray, memoryview, dict, list, tuple "
            f"or a pydantic model, not {type(message).__name__}"
        )
    return str(to_json(message))


def frame_header(opcode: int, length: int, rsv1: bool = False) -> bytes:
    """The header of a final, unmasked frame.

    Args:
        opcode: 0 to 15; 8 and above are control frames.
        length: bytes of payload that follow; at most 125 for a control frame.
        rsv1: whether the payload is compressed (RFC 7692 section 6).

    Returns:
        2, 4 or 10 bytes.

    Raises:
        ValueError: there is no such frame.

    Source: RFC 6455 section 5.2.
    """
    if not 0 <= opcode <= 15:
        raise ValueError(f"opcode={opcode!r}: must be 0 to 15")
    if not 0 <= length <= (MAX_LENGTH if opcode < FIRST_CONTROL else MAX_CONTROL_LENGTH):
        raise ValueError(f"length={length!r}: must be 0 to 125 for a control frame, 0 to 2**63 - 1 for others")
    return _header(opcode | (RSV1 if rsv1 else 0), length)


def close_frame(code: int, reason: str) -> bytes:
    """A close frame.

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
    if length < 126:
        return bytes((FIN | opcode, length))
    if length < 65536:
        return pack("!BBH", FIN | opcode, 126, length)
    return pack("!BBQ", FIN | opcode, 127, length)


class Outgoing:
    """One message, encoded once and shared by every connection it goes to.

    Args:
        data: the message; ``encode`` makes it from whatever a user sent.

    Attributes:
        data: the message as it was given.
        payload: the message in bytes, UTF-8 for text.
        size: length of ``payload``, in bytes.
        text: whether it is a text message.

    Raises:
        ValueError: text with half of a surrogate pair, which UTF-8 does not have.
    """

    __slots__ = ("_deflated", "_frame", "data", "payload", "size", "text")

    def __init__(self, data: str | bytes) -> None:
        self.data = data
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
    def frame(self) -> bytes:
        """The message as a ready frame; made at the first use."""
        frame = self._frame
        if frame is None:
            frame = self._frame = _header(TEXT if self.text else BINARY, self.size) + self.payload
        return frame

    def event(self) -> dict[str, Any]:
        """The message as an ASGI event; a new one each time, because whoever gets it may change it."""
        return {"type": "websocket.send", "text" if self.text else "bytes": self.data}

    def deflated(self, window_bits: int) -> bytes:
        """The message as a ready frame of permessage-deflate; made at the first use of each window.

        Each message starts with an empty window, so that one frame serves all peers, whatever
        they were sent before and whether or not they keep their window.

        Args:
            window_bits: base-2 logarithm of the window that was negotiated, 9 to 15.

        Raises:
            ValueError: a window zlib has not.

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


def _no_utf8(text: str, error: UnicodeEncodeError) -> ValueError:
    half = text[error.start]
    return ValueError(f"text with half of a surrogate pair ({half!r} at index {error.start}): not UTF-8")


def _deflate(payload: bytes, window_bits: int) -> bytes:
    if window_bits not in WINDOW_BITS:
        raise ValueError(f"window_bits={window_bits!r}: must be 9 to 15")
    memory_level = 5 if window_bits <= SMALL_WINDOW else 8
    compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -window_bits, memory_level)
    compressed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return compressed.removesuffix(EMPTY_BLOCK)
