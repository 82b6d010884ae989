"""Isolates peers on hypercorn from each other, even before their application is called.

By itself hypercorn answers 400 to data that follows a handshake not accepted yet, drops its end of the stream, and
calls the application, which then waits for ever. On trio a resulting error, or two overlapping writes, ends the whole
server. So this module changes hypercorn's classes, once per process:

- data that a peer sends before it is accepted is kept, and handed over in order after the answer; after a refusal it is
  discarded;
- on trio the end of a connection does not overlap a write, and an error of one connection is logged.

Private: ``handle``, ``app_send``, ``state``, ``handshake``, ``app_put``, ``closed`` and ``stream_id`` of ``WSStream``,
the bound of the queue behind ``app_put``; ``run``, ``_close``, ``send_lock`` and ``stream`` of trio's ``TCPServer``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import anyio

from ...notices import Notices

__all__ = ["MOST_KEPT", "shield"]

logger = logging.getLogger("wsstab")

MOST_KEPT = 65_536
"""Bytes kept from a peer that is not accepted yet; above this, reading pauses until the peer is accepted."""
MARK = "_wsstab_early"


class Early:
    """What a peer sent before it was accepted."""

    __slots__ = ("decided", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.size = 0
        self.decided = anyio.Event()


def shield() -> None:
    """Change hypercorn's classes, if they are loaded and not changed yet."""
    streams = sys.modules.get("hypercorn.protocol.ws_stream")
    if streams is not None and not getattr(streams.WSStream, "_wsstab_shielded", False):
        _shield_streams(streams)
    servers = sys.modules.get("hypercorn.trio.tcp_server")
    if servers is not None and not getattr(servers.TCPServer, "_wsstab_shielded", False):
        _shield_servers(servers)


def _shield_streams(module: Any) -> None:
    stream_class, state, data = module.WSStream, module.ASGIWebsocketState, (module.Body, module.Data)
    handle, app_send = stream_class.handle, stream_class.app_send
    connected, undecided = state.CONNECTED, state.HANDSHAKE

    def handle_or_keep(stream: Any, event: Any) -> Awaitable[None]:
        # All data from the peer passes through this function, so it makes no coroutine of its own, and the common case
        # comes first.
        if stream.state is connected and MARK not in stream.__dict__:
            return handle(stream, event)  # type: ignore[no-any-return]
        if isinstance(event, data):
            early = stream.__dict__.get(MARK)
            if early is not None or not stream.handshake.accepted:
                return keep(stream, event, early)
        elif type(event).__name__ == "StreamClosed":
            release(stream)
        return handle(stream, event)  # type: ignore[no-any-return]

    async def keep(stream: Any, event: Any, early: Early | None) -> None:
        if stream.closed or (early is None and stream.state is not undecided):
            return  # It was refused.
        if early is None:
            early = stream.__dict__[MARK] = Early()
        early.pieces.append(event)
        early.size += len(event.data)
        if early.size > MOST_KEPT:
            # This is the task that reads: while it waits, TCP holds the peer back.
            await early.decided.wait()

    def send_or_decide(stream: Any, message: Any) -> Awaitable[None]:
        if stream.state is not undecided:
            return app_send(stream, message)  # type: ignore[no-any-return]
        return decide(stream, message)

    async def decide(stream: Any, message: Any) -> None:
        await app_send(stream, message)
        early = stream.__dict__.get(MARK)
        if early is not None and stream.state is not undecided:
            try:
                if stream.handshake.accepted:
                    await hand_over(stream, early)
            finally:
                release(stream)

    async def hand_over(stream: Any, early: Early) -> None:
        with unbounded(stream.app_put):
            # Data that arrives during the wait is appended to the pieces, and so stays in order.
            while early.pieces and not stream.closed:
                await handle(stream, early.pieces.pop(0))

    stream_class.handle, stream_class.app_send = handle_or_keep, send_or_decide
    stream_class._wsstab_shielded = True


def release(stream: Any) -> None:
    """Drop the kept data, which has been handed over or is not needed, once the handshake is decided."""
    early = stream.__dict__.pop(MARK, None)
    if early is not None:
        early.pieces.clear()
        early.decided.set()


@contextmanager
def unbounded(put: Callable[..., object]) -> Iterator[None]:
    """Let the application's queue take all kept data, since the task that accepts cannot receive meanwhile."""
    channel: Any = getattr(put, "__self__", None)
    # `asyncio.Queue` holds its bound in ``_maxsize`` (0 for none), trio's memory channel in its ``_state``.
    owner, name, most = (channel, "_maxsize", 0) if hasattr(channel, "_maxsize") else (None, "", inf)
    if hasattr(channel, "_state"):
        owner, name, most = channel._state, "max_buffer_size", inf
    if owner is None:
        yield
        return
    bound = getattr(owner, name)
    setattr(owner, name, most)
    try:
        yield
    finally:
        setattr(owner, name, bound)


def _shield_servers(module: Any) -> None:
    server_class, trio = module.TCPServer, module.trio
    run, close = server_class.run, server_class._close
    notices = Notices()

    async def run_alone(server: Any) -> None:
        try:
            await run(server)
        except Exception:
            # Logged here, because no manager may know of the connection: it can fail before its application is called.
            if notices.may_tell("error of a connection"):
                logger.warning("! an error has ended one connection", exc_info=True)

    async def close_between_writes(server: Any) -> None:
        try:
            # A write that meets the end of its stream raises BusyResourceError, which would end the whole server.
            server.send_lock.acquire_nowait()
        except trio.WouldBlock:
            # The writing task gets an error, and a clean end after its data is no longer possible.
            await server.stream.aclose()
            return
        try:
            await close(server)
        finally:
            server.send_lock.release()

    server_class.run, server_class._close = run_alone, close_between_writes
    server_class._wsstab_shielded = True
