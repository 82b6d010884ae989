"""Probing: where all places are taken, a peer that may be gone must prove that it is not.

A half-open peer keeps its place until its heartbeat has found it out, a minute and a half by default. Meanwhile a
client that comes back, often the very one, would be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest
from math import inf
from typing import TYPE_CHECKING

import anyio

from ..core.limits import holder_of
from ..loop.tasks import EventLoop, current_loop

if TYPE_CHECKING:
    from ..connection import Peer

__all__ = ["Prober"]

USUAL = 1.0
"""Seconds in which a peer answers a ping, unless it has always taken longer."""
LONGEST_PROBE = 5.0
"""Seconds that a probe takes at most, however slow a peer has been before."""
MOST_AT_ONCE = 8
"""Peers that are probed at a time."""
BETWEEN_SEARCHES = 1.0
"""Seconds between two searches for peers to probe: each looks at all connections."""
SHARE = 0.05
"""Part of the time that searches may take in all: each address may cause one of its own."""
LOOK_AGAIN = 0.02
"""Seconds between two looks at whether they have answered."""


class Prober:
    """Finds out which peers are not there any more.

    Args:
        connections: gives all that are open.
    """

    def __init__(self, connections: Callable[[], Iterable[Peer]]) -> None:
        self._connections = connections
        self._searches: dict[str | None, _Search] = {}
        self._rests_until = -inf

    async def make_room(self, is_room: Callable[[], bool], address: str | None = None) -> None:
        """Abort peers whose ping is unanswered beyond the usual, and that do not answer another.

        Where there is none, those that have been silent longest are pinged: who does not answer is found next time.
        Who comes while a probe is under way waits for what it brings.

        Args:
            is_room: whether there is room now.
            address: only those that came from there; ``None`` for all.
        """
        loop = current_loop()
        now = loop.time()
        search = self._searches.get(address)
        if search is not None and now < search.until:
            # No more wait than it can free places, the one who searches among them.
            if search.waiting < MOST_AT_ONCE - 1:
                await search.wait_for(is_room, loop)
            return
        if now < self._rests_until or (search is not None and now - search.began < BETWEEN_SEARCHES):
            return
        self._searches = {where: each for where, each in self._searches.items() if now < each.until + BETWEEN_SEARCHES}
        search = self._searches[address] = _Search(now)
        doubtful, silent = self._find(address, loop)
        self._rests_until = now + (loop.time() - now) / SHARE
        if not doubtful:
            for each in silent:
                each.heartbeat.ask()
            return
        search.until = now + LONGEST_PROBE
        try:
            found = await probe(doubtful, is_room)
        finally:
            search.until = loop.time()
        if found:
            search.until += USUAL
            await search.wait_for(is_room, loop)

    def _find(self, address: str | None, loop: EventLoop) -> tuple[list[Peer], list[Peer]]:
        """Who is doubtful, and where there is nobody, who has been silent; those that were heard longest ago."""
        holder = holder_of(address)
        askable = [each for each in self._connections() if can_be_asked(each, loop, holder)]
        doubtful = nsmallest(MOST_AT_ONCE, filter(is_doubtful, askable), key=heard_at)
        return doubtful, [] if doubtful else nsmallest(MOST_AT_ONCE, filter(is_silent, askable), key=heard_at)


class _Search:
    """One search for peers that are not there any more, and who waits for the places that it frees.

    Args:
        began: time of the event loop.
    """

    __slots__ = ("began", "until", "waiting")

    def __init__(self, began: float) -> None:
        self.began = self.until = began
        self.waiting = 0

    async def wait_for(self, is_room: Callable[[], bool], loop: EventLoop) -> None:
        """Wait as long as it may still free a place."""
        self.waiting += 1
        try:
            while not is_room() and loop.time() < self.until:
                await anyio.sleep(LOOK_AGAIN)
        finally:
            self.waiting -= 1


async def probe(doubtful: list[Peer], is_room: Callable[[], bool]) -> bool:
    """Ping them, and abort those that do not answer; whether there were any, and no room came meanwhile."""
    pinged = {each: each.heartbeat.ask() for each in doubtful}
    with anyio.move_on_after(min(max(map(patience, doubtful)), LONGEST_PROBE)):
        while not is_room() and any(is_silent_since(each, at) for each, at in pinged.items()):
            await anyio.sleep(LOOK_AGAIN)
    if is_room():
        return False
    dead = [each for each, at in pinged.items() if is_silent_since(each, at)]
    for each in dead:
        each.heartbeat.dead(each.services.timekeeper.now)
    return bool(dead)


def heard_at(peer: Peer) -> float:
    """When anything last arrived."""
    return peer.heartbeat.deadlines.heard_at


def patience(peer: Peer) -> float:
    """Seconds in which it usually answers."""
    return max(USUAL, 4 * (peer.heartbeat.latency or 0.0))


def can_be_asked(peer: Peer, loop: EventLoop, holder: str | None) -> bool:
    """Whether it is one that a ping can reach from here, and whose pong would be seen."""
    if peer.loop is not loop or not peer.open:
        return False
    if holder is not None and holder_of(peer.address) != holder:
        return False
    return peer.heartbeat.deadlines.beats and peer.heartbeat.is_read()


def is_doubtful(peer: Peer) -> bool:
    """Whether its last ping is unanswered for longer than it usually takes."""
    deadlines, now = peer.heartbeat.deadlines, peer.services.timekeeper.now
    return deadlines.unanswered and deadlines.ping_at is not None and now - deadlines.ping_at > patience(peer)


def is_silent(peer: Peer) -> bool:
    """Whether nothing has come from it for a while, and nothing was asked."""
    deadlines, now = peer.heartbeat.deadlines, peer.services.timekeeper.now
    return not deadlines.unanswered and now - deadlines.heard_at > USUAL


def is_silent_since(peer: Peer, at: float) -> bool:
    """Whether it is open, is being read from, and nothing has come since then."""
    return peer.open and peer.heartbeat.is_read() and heard_at(peer) < at
