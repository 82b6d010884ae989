"""uvicorn: installs ``Server.handle_exit`` with ``signal.signal`` before the lifespan starts.

This holds for its single process, each of its workers, its reloader's child, and its worker under gunicorn. By itself
uvicorn closes every socket as soon as the signal arrives; after the takeover it does so when the drain is over. When it
stops without a signal (``--limit-max-requests``, or ``should_exit`` set by code), only ``Server.on_tick`` shows it: ten
times a second it returns whether to stop. Our version returns true only when the drain is over.

Private details used: ``Server.handle_exit``, ``Server.should_exit``, ``Server.on_tick`` (0.34 to 0.54).
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from .base import SIGNALS, Chain, leads_to

if TYPE_CHECKING:
    from ..types import Send
    from .base import SignalOwner, Takeover

__all__ = ["handles", "take"]

TICKS_A_SECOND = 10


class Tick:
    """``Server.on_tick``, which returns whether the server is to stop.

    Args:
        owner: the owner that is told of the stop.
        server: uvicorn's server object.
    """

    def __init__(self, owner: SignalOwner, server: Any) -> None:
        self._owner = owner
        self._server = server
        self._original = server.on_tick
        self._stopping = False
        server.on_tick = self._on_tick

    def stands(self) -> bool:
        return bool(self._server.__dict__.get("on_tick") == self._on_tick)

    def give_back(self) -> None:
        if self.stands():
            del self._server.on_tick

    def let_stop(self, number: int | None) -> None:
        # The server stops by itself: its reason still holds at the next tick, which is uvicorn's own again.
        self.give_back()

    async def _on_tick(self, counter: int) -> bool:
        if self._stopping and counter % TICKS_A_SECOND:
            # The original would log its reason at each call. It is still called once a second, because it sets the date
            # and tells gunicorn that the worker is alive.
            return not self.stands()
        if await self._original(counter):
            # Another server goes on serving the application. The lifespan of this one closes its connections.
            if self._owner.serves_several and self._owner.stopping is False:
                return True
            self._stopping = True
            self._owner.on_stop()
        return self._stopping and not self.stands()


def take(owner: SignalOwner, send: Send | None) -> list[Takeover]:
    """Take over the signals of a uvicorn server, and its tick."""
    # Other code may have installed a handler that calls uvicorn's in turn, as ddtrace does.
    handlers = {number: leads_to(signal.getsignal(number), handles) for number in SIGNALS}
    found = [number for number, handler in handlers.items() if handler is not None]
    if not found:
        return []
    server: Any = handlers[found[0]].__self__
    taken: list[Takeover] = [Chain(owner, found)]
    if hasattr(server, "on_tick"):
        taken.append(Tick(owner, server))
    return taken


def handles(handler: object) -> bool:
    """Whether this is the handler of a uvicorn server."""
    server = getattr(handler, "__self__", None)
    return (
        getattr(handler, "__name__", "") == "handle_exit"
        and any(base.__module__.partition(".")[0] == "uvicorn" for base in type(server).__mro__)
        and hasattr(server, "should_exit")
    )
