"""A program that serves with hypercorn itself: ``python -m … asyncio|uvloop|trio signal|trigger <fd>``."""

from __future__ import annotations

import asyncio
import sys

import anyio
import trio
import uvloop
from hypercorn.config import Config

from tests.support.apps import service
from wsstab.signals import serve_hypercorn

__all__ = ["main"]


async def somebody_closed() -> None:
    """The trigger: wait until a handler has closed its socket."""
    while "closed twice" not in service.notes:
        await anyio.sleep(0.02)


async def serve(trigger: bool, listener: str) -> None:
    """Serve until told to stop."""
    config = Config()
    config.bind = [f"fd://{listener}"]
    await serve_hypercorn(service.app, config, shutdown_trigger=somebody_closed if trigger else None)
    service.notes.append("served")


def main(library: str, how: str, listener: str) -> None:
    """Serve on an event loop of this kind."""
    if library == "trio":
        trio.run(serve, how == "trigger", listener)
    elif library == "uvloop":
        uvloop.run(serve(how == "trigger", listener))
    else:
        asyncio.run(serve(how == "trigger", listener))


if __name__ == "__main__":
    main(*sys.argv[1:])
