"""Access to a connection object of wsproto, on which two servers are built.

Private names of wsproto used here; a missing one is treated as empty:
``_proto.extensions``, ``_proto._frame_decoder.buffer.buffer``. Tried with wsproto 1.2 and 1.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["bound_inflating", "deflate_of", "drop_contexts", "undecoded", "window_bits"]

SLICE = 1024
"""Compressed bytes inflated at a time; zlib makes at most 1,032 times as many of them."""


def deflate_of(connection: Any) -> Any:
    """The negotiated permessage-deflate extension; ``None`` if it was not negotiated."""
    protocol = getattr(connection, "_proto", None)
    for extension in getattr(protocol, "extensions", ()):
        if getattr(extension, "name", "") == "permessage-deflate" and extension.enabled():
            return extension
    return None


def window_bits(connection: Any) -> int:
    """The window bits that the peer lets us compress with; 0 for no compression."""
    extension = deflate_of(connection)
    return int(extension.server_max_window_bits) if extension is not None else 0


def drop_contexts(connection: Any) -> bool:
    """Keep neither compressor nor inflater between messages; return whether compression was negotiated."""
    extension = deflate_of(connection)
    if extension is None:
        return False
    extension.server_no_context_takeover = extension.client_no_context_takeover = True
    return True


def undecoded(connection: Any) -> int:
    """Bytes that have arrived but do not form a complete frame or header yet."""
    decoder = getattr(getattr(connection, "_proto", None), "_frame_decoder", None)
    return len(getattr(getattr(decoder, "buffer", None), "buffer", b""))


def bound_inflating(connection: Any, limit: Callable[[], int | None]) -> None:
    """Stop inflating a message soon after it exceeds a limit; wsproto itself inflates a whole read of the socket.

    The result is over the limit then, and the code that counts bytes refuses it.

    Args:
        connection: the connection of wsproto, with its handshake complete.
        limit: returns the bytes that a message may have; ``None`` for no limit.
    """
    extension = deflate_of(connection)
    if extension is None:
        return
    inflate, complete = extension.frame_inbound_payload_data, extension.frame_inbound_complete
    over_limit = False

    def inflate_some(protocol: Any, data: bytes) -> Any:
        nonlocal over_limit
        most, size, pieces = limit(), 0, []
        # In slices, because the limit can be checked only between two calls, and one call may make a thousand times its
        # size.
        for start in range(0, len(data), SLICE):
            piece = inflate(protocol, data[start : start + SLICE])
            if not isinstance(piece, bytes):
                return piece
            size += len(piece)
            pieces.append(piece)
            if most is not None and size > most:
                over_limit = True
                break
        return b"".join(pieces)

    def complete_unless_over_limit(protocol: Any, fin: bool) -> Any:
        # The omitted data would make the rest look like an error in the compressed data.
        return b"" if over_limit else complete(protocol, fin)

    extension.frame_inbound_payload_data = inflate_some
    extension.frame_inbound_complete = complete_unless_over_limit
