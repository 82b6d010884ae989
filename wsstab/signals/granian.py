"""granian: each worker installs its handlers on the event loop before the lifespan starts.

The parent tells its workers to stop by SIGTERM, whatever its own reason: a signal, SIGHUP, or the end of a worker's
lifetime. A worker that gets SIGTERM no longer answers and ends. A pending send then aborts the process, so the drain
cancels pending sends first.

Private detail used: the handlers are functions of ``granian._signals`` (2.8).
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
