"""granian: each worker has its handlers on the event loop before the lifespan starts.

Its parent tells the workers by SIGTERM, whatever it was told itself: a signal, SIGHUP, or that a worker's lifetime is
over. A worker that gets it answers nothing any more and ends. A send that is pending then aborts the process, so they
are cancelled before; the drain does that.

Private: that the handlers are functions of ``granian._signals`` (2.8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import SIGNALS
from .loop import take_from_loop

if TYPE_CHECKING:
    from ..types import Send
    from .base import SignalOwner, Takeover

__all__ = ["take"]


def take(owner: SignalOwner, send: Send | None) -> list[Takeover]:
    """Take over the signals of a granian worker."""
    return [*take_from_loop(owner, "granian._signals", SIGNALS)]
