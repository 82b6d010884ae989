"""WebSocket frames as bytes, exactly as they travel (RFC 6455 section 5.2).

Nothing is judged here: a frame that no correct endpoint would send can be
built, and a frame that arrived is shown as it is.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT", "Frame", "FrameParser", "close_payload"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Frame:
    """One frame.

    Args:
        opcode: what kind of frame.
        payload: unmasked payload.
        fin: whether it ends its message.
        reserved: the three reserved bits; 4 is RSV1, the mark of a compressed message.
        at: when it arrived, in seconds of the monotonic clock.
    """

    opcode: int
    payload: bytes = b""
    fin: bool = True
    reserved: int = 0
    at: float = 0.0

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode()

    @property
    def code(self) -> int:
        """Code of a close frame, 1005 when it has none."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005

    @property
    def reason(self) -> str:
        """Reason of a close frame."""
        return self.payload[2:].decode()

    def encode(self, masked: bool = True) -> bytes:
        """The frame as bytes, masked as a client's must be."""
        first = (self.fin << 7) | (self.reserved << 4) | self.opcode
        header = bytes([first]) + encode_length(len(self.payload), masked)
        if not masked:
            return header + self.payload
        mask = os.urandom(4)
        return header + mask + apply_mask(self.payload, mask)


def encode_length(length: int, masked: bool) -> bytes:
    """The length field of a frame, with the mask bit."""
    bit = masked << 7
    if length < 126:
        return bytes([bit | length])
    if length < 65536:
        return bytes([bit | 126]) + struct.pack("!H", length)
    return bytes([bit | 127]) + struct.pack("!Q", length)


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """The payload with the mask applied; applying it again removes it (RFC 6455 section 5.3)."""
    if not payload:
        return b""
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return mixed.to_bytes(len(payload), "big")


def close_payload(code: int | None, reason: str = "") -> bytes:
    """The payload of a close frame; ``None`` for a frame without a code."""
    return b"" if code is None else struct.pack("!H", code) + reason.encode()


class FrameParser:
    """Parses frames from a stream of bytes that arrives in any pieces."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes that arrived."""
        self.buffer += data

    def next(self, now: float) -> Frame | None:
        """The next whole frame, or nothing yet."""
        header = read_header(self.buffer)
        if header is None:
            return None
        start, length = header
        if len(self.buffer) < start + length:
            return None
        first = self.buffer[0]
        payload = bytes(self.buffer[start : start + length])
        del self.buffer[: start + length]
        return Frame(first & 15, payload, bool(first & 128), (first >> 4) & 7, now)


def read_header(buffer: bytes | bytearray | memoryview) -> tuple[int, int] | None:
    """Where the payload of a server's frame starts and how long it is, or nothing yet."""
    if len(buffer) < 2:
        return None
    length = buffer[1] & 127
    if length < 126:
        return 2, length
    size = 2 if length == 126 else 8
    if len(buffer) < 2 + size:
        return None
    return 2 + size, int.from_bytes(buffer[2 : 2 + size], "big")
