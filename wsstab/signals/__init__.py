"""Signals: a drain before the server closes every socket.

One owner in the process, in the main thread; one module for each server that has a signal to take.
"""

from __future__ import annotations

import threading

from .base import Drainable, owner
from .uvicorn import handles

__all__ = ["forget_signals", "watch_signals"]


def watch_signals(manager: Drainable) -> None:
    """Have ``manager`` drained when the server is told to stop, if that can be had here."""
    if not manager.config.drain.handle_signals or threading.current_thread() is not threading.main_thread():
        return
    owner.watch(manager, handles)


def forget_signals(manager: Drainable) -> None:
    """The manager has stopped: the last one gives the signals back."""
    owner.forget(manager)
