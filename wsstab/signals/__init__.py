"""Signals: a drain before the server closes every socket.

One owner in the process, in the main thread; one module for each server that has a way to stop that can be taken over.
Where none is found, the log says so once, and sockets end as the server ends them. Outside the main thread, as under a
test client, there are no signals, and nothing is said.
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
    """Have ``manager`` drained when the server is told to stop, if that can be had here.

    Args:
        manager: the manager to drain.
        send: that of a WebSocket, where there is one: some servers can only be reached through it.
    """
    if owner.in_place(manager) or not manager.config.drain.handle_signals or manager.is_draining:
        return
    if threading.current_thread() is not threading.main_thread():
        return
    if not owner.watch(manager, TAKES, send) and send is not None:
        manager.warn_once("signals", "! no early drain: no way to hear when this server is to stop")


def forget_signals(manager: Drainable) -> None:
    """The manager has stopped: the last one gives the signals back."""
    owner.forget(manager)
