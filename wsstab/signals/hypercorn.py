"""hypercorn: started by its command line, with workers or without; or from a program, by `serve_hypercorn`.

- Its workers (one, unless told otherwise) are children. They get no signal: the parent sets a multiprocessing event, of
  which each asks ten times a second. Ours answers that it is not set until the drain is over, so hypercorn's own
  ``graceful_timeout`` begins when nobody is left. SIGTERM is taken too: natively it kills a worker, and the parent
  sends it to the others as soon as the first has ended. A worker that alone gets it drains, ends in good order, and is
  replaced.
- With ``--workers 0`` there is no child; asyncio has its handlers on the event loop, trio has none: SIGTERM kills it.
- ``max_requests`` sets an event of the worker's context, which a WebSocket's ``send`` leads to. It is set when the
  drain is over.

The parent tells its workers once. Whoever has no patience signals the process group, as a terminal does. With several
workers a second SIGTERM cannot be told from the one that the parent sends; SIGINT can.

Private: ``_kwargs`` of the current process (Python 3.10 to 3.13) with ``shutdown_event`` and ``config``, and ``is_set``
of that event; the function ``_signal_handler`` of ``hypercorn.asyncio.run``; ``worker_serve`` of
``hypercorn.trio.run``; ``WSStream.context`` with ``terminate`` and ``max_requests`` (hypercorn 0.17 to 0.18).
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import anyio

from ..loop.tasks import Latch, current_loop
from ..wires.base import owner_of
from ..wires.observers import server_behind
from . import base
from .base import SIGNALS, Chain
from .loop import take_from_loop

if TYPE_CHECKING:
    from ..types import Send
    from .base import SignalOwner, Takeover

__all__ = ["serve_hypercorn", "take"]


class SharedEvent:
    """The event by which the parent tells its workers to stop.

    Args:
        owner: who hears of it.
        event: this worker's own object for it; to the others nothing happens.
    """

    def __init__(self, owner: SignalOwner, event: Any) -> None:
        self._owner = owner
        self._event = event
        self._is_really_set = event.is_set
        self._over = False
        event.is_set = self._is_set

    def stands(self) -> bool:
        return bool(self._event.__dict__.get("is_set") == self._is_set)

    def give_back(self) -> None:
        if self.stands():
            del self._event.is_set

    def let_stop(self, number: int | None) -> None:
        # Ours stays: where this worker alone is to end, the real one is not set.
        self._over = True

    def _is_set(self) -> bool:
        if not self._over and self._is_really_set():
            self._owner.on_stop()
        return self._over


class ChildSignals:
    """SIGTERM, which would kill a worker, and SIGINT, which it ignores.

    Args:
        owner: who hears of them.
        siblings: whether there are other workers.
    """

    def __init__(self, owner: SignalOwner, siblings: bool) -> None:
        self._owner = owner
        self._siblings = siblings
        self._over = False
        self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}

    def stands(self) -> bool:
        return all(signal.getsignal(number) == self._on_signal for number in self._before)

    def give_back(self) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, handler)

    def let_stop(self, number: int | None) -> None:
        # Not given back: the parent's SIGTERM may come while the application ends its lifespan.
        self._over = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        relayed = self._siblings and number == signal.SIGTERM and self._owner.stopping
        if not self._over and not relayed:
            self._owner.on_signal(number, frame)


class Terminate:
    """The event by which a worker ends itself.

    Args:
        owner: who hears of it.
        event: ``terminate`` of its context.
    """

    def __init__(self, owner: SignalOwner, event: Any) -> None:
        self._owner = owner
        self._event = event
        self._really_set = event.set
        self._asked = False
        event.set = self._set

    def stands(self) -> bool:
        return bool(self._event.__dict__.get("set") == self._set)

    def give_back(self) -> None:
        if self.stands():
            del self._event.set

    def let_stop(self, number: int | None) -> None:
        self.give_back()
        if self._asked:
            current_loop().spawn(self._really_set)

    async def _set(self) -> None:
        if self._owner.serves_several:
            # The others serve on; the lifespan of this one says whose sockets end.
            await self._really_set()
            return
        self._asked = True
        self._owner.on_stop()


class Stop:
    """Tells a hypercorn that `serve_hypercorn` runs to stop. Its handler is taken over as any server's is.

    Args:
        trigger: the caller's own, beside the signals.
    """

    def __init__(self, trigger: Callable[[], Awaitable[object]] | None) -> None:
        self._trigger = trigger
        self._told = Latch()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self.on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self.on_signal:
                signal.signal(number, handler)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The drain is over, or there is nobody to drain."""
        self._told.set()

    async def wait(self) -> None:
        """Return when hypercorn is to stop."""
        if self._trigger is None:
            await self._told.wait()
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._pull, self._trigger)
            await self._told.wait()
            group.cancel_scope.cancel()

    async def _pull(self, trigger: Callable[[], Awaitable[object]]) -> None:
        await trigger()
        await base.owner.drain()
        self._told.set()


async def serve_hypercorn(
    app: Any,
    config: Any,
    *,
    shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
    mode: Literal["asgi", "wsgi"] | None = None,
    task_status: Any = None,
) -> None:
    """Serve with hypercorn, and drain before it stops.

    As ``hypercorn.asyncio.serve`` and ``hypercorn.trio.serve``, whichever of them fits the running event loop. SIGTERM
    and SIGINT start the drain, and hypercorn stops when it is over; a second signal, a second later, ends the patience.
    Outside the main thread there are no signals.

    Args:
        app: the application.
        config: a ``hypercorn.Config``.
        shutdown_trigger: an async function that returns when the server is to stop, beside the signals.
        mode: ``asgi`` or ``wsgi``; ``None`` to have hypercorn find out.
        task_status: of trio, for ``await nursery.start(serve_hypercorn, app, config)``.
    """
    with Stop(shutdown_trigger) as stop:
        if on_asyncio():
            from hypercorn.asyncio import serve as serve_asyncio

            await serve_asyncio(app, config, shutdown_trigger=stop.wait, mode=mode)
        else:
            from hypercorn.trio import serve as serve_trio

            more = {} if task_status is None else {"task_status": task_status}
            await serve_trio(app, config, shutdown_trigger=stop.wait, mode=mode, **more)


def take(owner: SignalOwner, send: Send | None) -> list[Takeover]:
    """Take over what tells a hypercorn to stop."""
    if "hypercorn" not in sys.modules:
        return []
    return [*take_signals(owner), *take_terminate(owner, send)]


def take_signals(owner: SignalOwner) -> list[Takeover]:
    """The way in which this process is told, which depends on how it was started."""
    served = [number for number in SIGNALS if isinstance(getattr(signal.getsignal(number), "__self__", None), Stop)]
    if served:
        return [Chain(owner, served)]
    child = worker_arguments()
    if child:
        event, siblings = child["shutdown_event"], child["config"].workers > 1
        return [SharedEvent(owner, event), ChildSignals(owner, siblings)]
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and runs_trio_itself():
        return [Chain(owner, SIGNALS)]
    return [*take_from_loop(owner, "hypercorn.asyncio.run", SIGNALS)]


def take_terminate(owner: SignalOwner, send: Send | None) -> list[Takeover]:
    """The event of a worker that ends itself after so many requests."""
    stream = owner_of(send) or server_behind(send)
    context = getattr(stream, "context", None)
    event = getattr(context, "terminate", None)
    if getattr(context, "max_requests", None) is None or event is None:
        return []
    return [Terminate(owner, event)]


def worker_arguments() -> dict[str, Any]:
    """What this process was called with, where it is a worker of hypercorn's command line."""
    import multiprocessing

    process = multiprocessing.current_process()
    target, arguments = getattr(process, "_target", None), getattr(process, "_kwargs", {})
    named = getattr(target, "__module__", "").startswith("hypercorn.")
    return arguments if named and {"shutdown_event", "config"} <= arguments.keys() else {}


def runs_trio_itself() -> bool:
    """Whether this trio run is hypercorn's own, so that nobody else has a say in its signals."""
    if on_asyncio() or "trio" not in sys.modules:
        return False
    import trio

    task: Any = trio.lowlevel.current_task()
    while task is not None and task.coro.__qualname__ != "worker_serve":
        task = task.parent_nursery.parent_task if task.parent_nursery is not None else None
    return task is not None and task.coro.cr_frame.f_globals["__name__"] == "hypercorn.trio.run"


def on_asyncio() -> bool:
    """Whether asyncio or uvloop runs this code."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
