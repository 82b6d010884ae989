"""permessage-deflate (RFC 7692) as it is negotiated with one peer."""

from __future__ import annotations

__all__ = ["NO_CONTEXT_TAKEOVER", "without_takeover"]

NO_CONTEXT_TAKEOVER = ("server_no_context_takeover", "client_no_context_takeover")
"""With both, neither side keeps its window between messages; a server may answer so unasked (7.1.1.1, 7.1.1.2)."""


def without_takeover(answer: str) -> str:
    """An answer to an offer of permessage-deflate, with context takeover refused in both directions.

    Args:
        answer: the value of the ``Sec-WebSocket-Extensions`` header.
    """
    given = {parameter.strip() for parameter in answer.split(";")}
    return "; ".join([answer, *(name for name in NO_CONTEXT_TAKEOVER if name not in given)])
