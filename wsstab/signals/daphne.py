"""daphne: Twisted's reactor installs ``sigTerm`` and ``sigInt`` with ``signal.signal`` when it starts.

daphne has no lifespan, so the handlers are taken over at the first WebSocket. By itself daphne cuts every socket as
soon as the signal arrives; after the takeover it does so when the drain is over.

Private detail used: the handlers are methods of those names of a class of ``twisted.internet`` (daphne 4.1 and 4.2,
Twisted 26.10).
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from .base import SIGNALS, Chain, leads_to

if TYPE_CHECKING:
    from ..types import Send
    from .base import SignalOwner, Takeover

__all__ = ["handles", "take"]


def take(owner: SignalOwner, send: Send | None) -> list[Takeover]:
    """Take over the signals of daphne's reactor."""
    if "daphne.server" not in sys.modules:
        return []
    found = [number for number in SIGNALS if leads_to(signal.getsignal(number), handles) is not None]
    return [Chain(owner, found)] if found else []


def handles(handler: object) -> bool:
    """Whether this is a handler of a Twisted reactor."""
    reactor = getattr(handler, "__self__", None)
    return getattr(handler, "__name__", "") in ("sigTerm", "sigInt") and any(
        base.__module__.startswith("twisted.internet.") for base in type(reactor).__mro__
    )
