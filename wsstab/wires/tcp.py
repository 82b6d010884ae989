"""What the operating system knows of a TCP connection that nobody reads from."""

from __future__ import annotations

import select
from typing import Any

__all__ = ["peer_has_left"]

ENDS = getattr(select, "POLLRDHUP", 0)
"""With it Linux tells of a FIN in front of which unread bytes stand; of a reset every system tells unasked."""


def peer_has_left(socket: Any) -> bool:
    """Whether the peer has ended its half of the connection, or reset it; reads nothing.

    Args:
        socket: of the connection, anything with a ``fileno``; ``None`` is answered with ``False``.

    Source: poll(2).
    """
    # Windows has no poll(): there the end is found by reading.
    if socket is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    try:
        poll.register(socket.fileno(), ENDS)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        # It was closed on this side, which has been told already.
        return False
