"""Signals: a drain before the server closes every socket.

The process has one owner, in the main thread, and one module for each server whose way to stop can be taken over. If no
such way is found, the log says so once, and sockets end as the server ends them. Outside the main thread, as under a
test client, no signals arrive, and nothing is logged.
"""

from __future__ import annotations

import threading

from ..types import Send
from . import daphne, granian, hypercorn, uvicorn
from .base import Drainable, owner
from .hypercorn import serve_hypercorn

__all__ = ["forget_signals", "serve_hypercorn", "watch_signals"]

TAKES = (uvicorn.take, hypercorn.take, granian.take, daphne.take)


def watch_signals(manager: Drainable, send: Send | None = None) -> None:
    """Have ``manager`` drained when the server is told to stop, if this server and thread allow it.

    Args:
        manager: the manager to drain.
        send: the ``send`` of a WebSocket, through which alone some servers can be reached; default ``None``.
    """
    # Every handshake comes here, and nearly all of them end at the first test.
    if owner.in_place(manager) or not manager.config.drain.handle_signals or manager.is_draining:
        return
    if threading.current_thread() is not threading.main_thread():
        return
    if not owner.watch(manager, TAKES, send) and send is not None:
        manager.warn_once("signals", "! no early drain: no way to hear when this server is to stop")


def forget_signals(manager: Drainable) -> None:
    """Forget a manager that has stopped; the last one gives the signals back to the server."""
    owner.forget(manager)
