"""What is to be had from a connection object of wsproto, on which two servers are built.

Private in wsproto and used here, each read with care (one missing: as if nothing were there):
``_proto.extensions``, ``_proto._frame_decoder.buffer.buffer``. Tried with wsproto 1.2 and 1.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["bound_inflating", "deflate_of", "drop_contexts", "undecoded", "window_bits"]

SLICE = 1024
"""Compressed bytes inflated at a time; zlib makes at most 1,032 times as many of them."""


def deflate_of(connection: Any) -> Any:
    """The extension permessage-deflate as it was negotiated; ``None`` where it was not."""
    protocol = getattr(connection, "_proto", None)
    for extension in getattr(protocol, "extensions", ()):
        if getattr(extension, "name", "") == "permessage-deflate" and extension.enabled():
            return extension
    return None


def window_bits(connection: Any) -> int:
    """The window that the peer lets us compress with; 0 where nothing is to be compressed."""
    extension = deflate_of(connection)
    return int(extension.server_max_window_bits) if extension is not None else 0


def drop_contexts(connection: Any) -> bool:
    """Have neither compressor nor inflater kept between messages; whether there are any to drop."""
    extension = deflate_of(connection)
    if extension is None:
        return False
    extension.server_no_context_takeover = extension.client_no_context_takeover = True
    return True


def undecoded(connection: Any) -> int:
    """Bytes that have arrived and are no complete frame, or no complete header, yet."""
    decoder = getattr(getattr(connection, "_proto", None), "_frame_decoder", None)
    return len(getattr(getattr(decoder, "buffer", None), "buffer", b""))


def bound_inflating(connection: Any, limit: Callable[[], int | None]) -> None:
    """Let a message be inflated little further than a limit; without it, as far as one read of the socket goes.

    What comes out is over the limit then, and whoever counts refuses it.

    Args:
        connection: of wsproto, with its handshake complete.
        limit: gives the bytes a message may have; ``None`` for any number.
    """
    extension = deflate_of(connection)
    if extension is None:
        return
    inflate, complete = extension.frame_inbound_payload_data, extension.frame_inbound_complete
    burst = False

    def inflate_some(protocol: Any, data: bytes) -> Any:
        nonlocal burst
        most, size, pieces = limit(), 0, []
        for start in range(0, len(data), SLICE):
            piece = inflate(protocol, data[start : start + SLICE])
            if not isinstance(piece, bytes):
                return piece
            size += len(piece)
            pieces.append(piece)
            if most is not None and size > most:
                burst = True
                break
        return b"".join(pieces)

    def complete_unless_burst(protocol: Any, fin: bool) -> Any:
        # What was left out would make it an error of the compressed data.
        return b"" if burst else complete(protocol, fin)

    extension.frame_inbound_payload_data = inflate_some
    extension.frame_inbound_complete = complete_unless_burst
