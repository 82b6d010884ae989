"""permessage-deflate (RFC 7692) as it is negotiated with one peer."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NO_CONTEXT_TAKEOVER", "Deflate", "without_takeover"]

NO_CONTEXT_TAKEOVER = ("server_no_context_takeover", "client_no_context_takeover")
"""Neither side keeps its window between messages; a server may answer with both unasked (7.1.1.1, 7.1.1.2)."""


class Deflate(NamedTuple):
    """How messages to a peer are compressed.

    Each is compressed with an empty window, whatever was negotiated: so one frame serves all peers.

    Args:
        window_bits: the window that was negotiated, 9 to 15.
        threshold: bytes from which a message is compressed; section 6 leaves that to each message.
    """

    window_bits: int
    threshold: int


def without_takeover(answer: str) -> str:
    """An answer to an offer of permessage-deflate, with context takeover refused in both directions.

    Args:
        answer: the value of the ``Sec-WebSocket-Extensions`` header.
    """
    given = {parameter.strip() for parameter in answer.split(";")}
    return "; ".join([answer, *(name for name in NO_CONTEXT_TAKEOVER if name not in given)])
