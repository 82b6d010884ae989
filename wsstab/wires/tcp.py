"""Asks the operating system about a TCP connection that nobody reads from."""

from __future__ import annotations

import select
from typing import Any

__all__ = ["peer_has_left"]

ENDS = getattr(select, "POLLRDHUP", 0)
"""Makes poll() on Linux report a FIN that follows unread bytes; every system reports a reset anyway."""


def peer_has_left(socket: Any) -> bool:
    """Whether the peer has ended its half of the connection, or reset it; reads nothing.

    Args:
        socket: the socket of the connection, any object with a ``fileno``; for ``None`` the answer is ``False``.

    Source: poll(2).
    """
    # Windows has no poll(); there only reading finds the end.
    if socket is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    try:
        # Not POLLIN: unread bytes say nothing. poll() reports errors and hang-ups whatever it is asked for.
        poll.register(socket.fileno(), ENDS)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        # This side has closed the socket, which has already been reported.
        return False
