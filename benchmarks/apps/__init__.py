"""What each system runs: the same few commands, written as its users would write them.

A client that connects to ``/`` gets broadcasts, and joins the rooms that its query names
(``/?rooms=a,b``). On ``/echo`` each message comes back. A message that a client sends on ``/`` is a command:

``broadcast COUNT SIZE [ROOM]``  send COUNT messages of SIZE characters, in one go
``json COUNT SIZE``              the same with JSON, to all
``send COUNT SIZE``              the handler sends COUNT messages to the client that asked
``stall``                        answer with the longest time the event loop did nothing else, in ms
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

__all__ = ["Loop", "command"]

Broadcast = Callable[[str, int, "str | None"], Awaitable[None]]


class Loop:
    """Measures the longest stall of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Begin to watch, once."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - began - 0.001)

    def take(self) -> str:
        """Return the longest stall so far in milliseconds, and begin anew."""
        longest, self.longest = self.longest, 0.0
        return f"{longest * 1000:.3f}"


loop = Loop()


def json_text(size: int) -> str:
    """A list of trades, cut to this many characters: as compressible as such data usually is."""
    trades = [
        {"symbol": f"S{(number * 7919) % 500}", "price": round((number * 104729) % 99991 / 100, 2), "size": number % 97}
        for number in range(size // 40 + 1)
    ]
    return json.dumps(trades)[:size]


async def command(text: str, broadcast: Broadcast, answer: Callable[[str], Awaitable[object]]) -> None:
    """Carry out the command of a client.

    Args:
        text: the command.
        broadcast: sends a payload a number of times, to all or to a room.
        answer: sends a text to the client that asked.
    """
    verb, *arguments = text.split()
    if verb == "broadcast":
        count, size, *room = arguments
        await broadcast("x" * int(size), int(count), room[0] if room else None)
    elif verb == "json":
        count, size = arguments
        await broadcast(json_text(int(size)), int(count), None)
    elif verb == "send":
        count, size = arguments
        payload = "x" * int(size)
        for _ in range(int(count)):
            await answer(payload)
    elif verb == "stall":
        loop.watch()
        await answer(loop.take())
