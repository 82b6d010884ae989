"""hypercorn: started from its command line, with or without workers, or from a program, by `serve_hypercorn`.

- Its workers (one by default) are child processes. They get no signal: the parent sets a multiprocessing event, which
  each worker polls ten times a second. Our version reports it as not set until the drain is over, so hypercorn's own
  ``graceful_timeout`` begins when no connection is left. SIGTERM is taken over too: natively it kills a worker, and the
  parent sends it to the others as soon as the first has ended. A worker that alone gets SIGTERM drains, ends in good
  order, and is replaced.
- With ``--workers 0`` no child exists. asyncio has its handlers on the event loop; trio has none, and SIGTERM kills it.
- ``max_requests`` sets an event of the worker's context, which is reached through a WebSocket's ``send``. The takeover
  sets the event when the drain is over.

The parent tells its workers once. To end the drain early, signal the process group, as a terminal does. With several
workers a second SIGTERM cannot be distinguished from the one that the parent sends; a second SIGINT can.

Private details used: ``_kwargs`` of the current process (Python 3.10 to 3.13) with ``shutdown_event`` and ``config``,
and ``is_set`` of that event; the function ``_signal_handler`` of ``hypercorn.asyncio.run``; ``worker_serve`` of
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
        owner: the owner that is told of the stop.
        event: the event object of this worker; changing it does not affect other workers.
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
        # Our method stays in place: if only this worker is to end, the real event is not set.
        self._over = True

    def _is_set(self) -> bool:
        if not self._over and self._is_really_set():
            self._owner.on_stop()
        return self._over


class ChildSignals:
    """Handles SIGTERM, which by default kills a worker, and SIGINT, which a worker ignores by itself.

    Args:
        owner: the owner that is told of the signals.
        siblings: whether other workers exist.
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
        # Not given back: the parent's SIGTERM may arrive while the lifespan of the application ends, and would kill it.
        self._over = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # With several workers, the first one that ends makes the parent send SIGTERM to the others, which are still
        # draining.
        relayed = self._siblings and number == signal.SIGTERM and self._owner.stopping
        if not self._over and not relayed:
            self._owner.on_signal(number, frame)


class Terminate:
    """The event by which a worker ends itself.

    Args:
        owner: the owner that is told of the stop.
        event: ``terminate`` of the worker's context.
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
            # The other servers continue; the lifespan of this one tells which sockets end.
            await self._really_set()
            return
        self._asked = True
        self._owner.on_stop()


class Stop:
    """Tells the hypercorn that `serve_hypercorn` runs to stop. Its handler is taken over like that of any server.

    Args:
        trigger: the caller's own shutdown trigger, in addition to the signals; ``None`` for none.
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
        """Let hypercorn stop: the drain is over, or there is nothing to drain."""
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

    Runs ``hypercorn.asyncio.serve`` or ``hypercorn.trio.serve``, whichever fits the running event loop. SIGTERM and
    SIGINT start the drain, and hypercorn stops when it is over; a second signal, at least a second later, ends the
    drain at once. Outside the main thread no signals are handled.

    Args:
        app: the application.
        config: a ``hypercorn.Config``.
        shutdown_trigger: an async function that returns when the server is to stop, in addition to the signals;
            default ``None``.
        mode: ``asgi`` or ``wsgi``; ``None`` (the default) to let hypercorn detect it.
        task_status: the task status of trio, for ``await nursery.start(serve_hypercorn, app, config)``.
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
    """Take over every way in which hypercorn is told to stop."""
    if "hypercorn" not in sys.modules:
        return []
    return [*take_signals(owner), *take_terminate(owner, send)]


def take_signals(owner: SignalOwner) -> list[Takeover]:
    """Take over the way in which this process is told to stop, which depends on how it was started."""
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
    """Take over the event of a worker that ends itself after ``max_requests`` requests."""
    stream = owner_of(send) or server_behind(send)
    context = getattr(stream, "context", None)
    event = getattr(context, "terminate", None)
    if getattr(context, "max_requests", None) is None or event is None:
        return []
    return [Terminate(owner, event)]


def worker_arguments() -> dict[str, Any]:
    """The arguments of this process if it is a worker of hypercorn's command line; empty otherwise."""
    import multiprocessing

    process = multiprocessing.current_process()
    target, arguments = getattr(process, "_target", None), getattr(process, "_kwargs", {})
    named = getattr(target, "__module__", "").startswith("hypercorn.")
    return arguments if named and {"shutdown_event", "config"} <= arguments.keys() else {}


def runs_trio_itself() -> bool:
    """Whether hypercorn itself started this trio run, so that no other code handles its signals."""
    if on_asyncio() or "trio" not in sys.modules:
        return False
    import trio

    # Other code may run trio and hypercorn in it. hypercorn's own worker is then not among the parents of this task.
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
