"""Probing: when all places are taken, pings the peers that may be gone, and aborts those that do not answer.

A half-open peer keeps its place until its heartbeat fails, a minute and a half by default. Without probing, a client
that reconnects meanwhile, often the very client of that peer, would be refused.
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
"""Seconds a peer gets to answer a ping, unless it has taken longer before."""
LONGEST_PROBE = 5.0
"""Seconds a probe takes at most, however slow a peer has been before."""
MOST_AT_ONCE = 8
"""Peers probed at a time."""
BETWEEN_SEARCHES = 1.0
"""Seconds between two searches for peers to probe: a search looks at all peers."""
SHARE = 0.05
"""Fraction of time that all searches together may take: each address can cause one."""
LOOK_AGAIN = 0.02
"""Seconds between two checks for answers."""


class Prober:
    """Finds peers that are gone.

    Args:
        peers: returns the open peers.
    """

    def __init__(self, peers: Callable[[], Iterable[Peer]]) -> None:
        self._peers = peers
        self._searches: dict[str | None, _Search] = {}
        self._rests_until = -inf

    async def make_room(self, is_room: Callable[[], bool], address: str | None = None) -> None:
        """Abort peers that have not answered their last ping in the usual time and do not answer another one.

        If no such peer exists, ping the ones that have been silent longest: a peer that does not answer is found next
        time. A caller that comes while a probe is running waits for its result.

        Args:
            is_room: whether a place is free now.
            address: probe only peers of this address; ``None`` for all.
        """
        loop = current_loop()
        now = loop.time()
        search = self._searches.get(address)
        if search is not None and now < search.until:
            # Only as many callers wait as the probe can free places, counting the one that probes.
            if search.waiting < MOST_AT_ONCE - 1:
                await search.wait_for(is_room, loop)
            return
        if now < self._rests_until or (search is not None and now - search.began < BETWEEN_SEARCHES):
            return
        # Searches that are over are dropped here, because peers choose how many addresses there are.
        self._searches = {where: each for where, each in self._searches.items() if now < each.until + BETWEEN_SEARCHES}
        search = self._searches[address] = _Search(now)
        doubtful, silent = self._find(address, loop)
        self._rests_until = now + (loop.time() - now) / SHARE
        if not doubtful:
            for each in silent:
                each.heartbeat.ask()
            return
        # Set before the wait, so that callers who come meanwhile wait for this probe.
        search.until = now + LONGEST_PROBE
        try:
            found = await probe(doubtful, is_room)
        finally:
            search.until = loop.time()
        if found:
            # An aborted peer gives its place back only when its ASGI call has ended.
            search.until += USUAL
            await search.wait_for(is_room, loop)

    def _find(self, address: str | None, loop: EventLoop) -> tuple[list[Peer], list[Peer]]:
        """The doubtful peers, or if none are doubtful the silent ones; those heard from longest ago."""
        holder = holder_of(address)
        askable = [each for each in self._peers() if can_be_asked(each, loop, holder)]
        doubtful = nsmallest(MOST_AT_ONCE, filter(is_doubtful, askable), key=heard_at)
        return doubtful, [] if doubtful else nsmallest(MOST_AT_ONCE, filter(is_silent, askable), key=heard_at)


class _Search:
    """One search for peers that are gone, and how many callers wait for the places it frees.

    Args:
        began: when it began, on the clock of the event loop.
    """

    __slots__ = ("began", "until", "waiting")

    def __init__(self, began: float) -> None:
        self.began = self.until = began
        self.waiting = 0

    async def wait_for(self, is_room: Callable[[], bool], loop: EventLoop) -> None:
        """Wait until a place is free, or the search cannot free one any more."""
        self.waiting += 1
        try:
            while not is_room() and loop.time() < self.until:
                await anyio.sleep(LOOK_AGAIN)
        finally:
            self.waiting -= 1


async def probe(doubtful: list[Peer], is_room: Callable[[], bool]) -> bool:
    """Ping these peers and abort those that do not answer; whether any was aborted. Stops when a place gets free."""
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
    """When the peer was last heard from."""
    return peer.heartbeat.deadlines.heard_at


def patience(peer: Peer) -> float:
    """Seconds in which the peer usually answers."""
    return max(USUAL, 4 * (peer.heartbeat.latency or 0.0))


def can_be_asked(peer: Peer, loop: EventLoop, holder: str | None) -> bool:
    """Whether a ping can reach the peer from this event loop, and somebody reads its pong."""
    if peer.loop is not loop or not peer.open:
        return False
    if holder is not None and holder_of(peer.address) != holder:
        return False
    return peer.heartbeat.deadlines.beats and peer.heartbeat.is_read()


def is_doubtful(peer: Peer) -> bool:
    """Whether the last ping has been unanswered for longer than the peer usually takes."""
    deadlines, now = peer.heartbeat.deadlines, peer.services.timekeeper.now
    return deadlines.unanswered and deadlines.ping_at is not None and now - deadlines.ping_at > patience(peer)


def is_silent(peer: Peer) -> bool:
    """Whether the peer has sent nothing for a while, and no ping is unanswered."""
    deadlines, now = peer.heartbeat.deadlines, peer.services.timekeeper.now
    return not deadlines.unanswered and now - deadlines.heard_at > USUAL


def is_silent_since(peer: Peer, at: float) -> bool:
    """Whether the peer is open and being read from, and has sent nothing since ``at``."""
    return peer.open and peer.heartbeat.is_read() and heard_at(peer) < at
