"""Sessions: all sessions of a hub, by the names under which a client may ask for them.

A session has two names. The client chose one before the first handshake, so that all tries until the first hello begin
one session. The server chose the other, which no other session ever has. The names of what has ended are remembered for
a while, because an offer may arrive late, and must not start another handler.

Takes the time as an argument, and schedules nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from ..core.protocol import Offer
from ..core.session import Refusal, Session

__all__ = ["Sessions"]

REMEMBERED = 60.0
"""Seconds for which the names of what has ended are remembered."""


class HasSession(Protocol):
    """Whoever runs the handler of a session."""

    @property
    def session(self) -> Session:
        """The session."""


H = TypeVar("H", bound=HasSession)


class Sessions(Generic[H]):
    """The sessions of a hub.

    Args:
        max_detached: sessions that may be without a carrier; also bounds how many names of ended ones are remembered.
    """

    def __init__(self, max_detached: int) -> None:
        self._max_detached = max_detached
        self._by_name: dict[str, H] = {}
        self._begun: dict[str, H] = {}
        self._finished: OrderedDict[str, float] = OrderedDict()
        self._detached: OrderedDict[str, H] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<Sessions [{len(self)}, {self.detached} detached | {len(self._finished)} names remembered]>"

    @property
    def detached(self) -> int:
        """How many sessions have no carrier."""
        return len(self._detached)

    def find(self, offer: Offer, now: float) -> H | Refusal | None:
        """Whose session an offer asks for.

        Args:
            offer: the offer.
            now: seconds.

        Returns:
            The holder of the session; why the offer is refused; ``None`` if a session is to begin.
        """
        if offer.session is not None and (holder := self._by_name.get(offer.session)) is not None:
            return holder.session.refusal_of(offer) or holder
        self._forget_finished(now)
        if offer.next is None:
            return Refusal("finished", None)
        if offer.session in self._finished or offer.next in self._finished:
            return Refusal("finished", "new")
        begun = self._begun.get(offer.next)
        if begun is None:
            return None
        return begun.session.refusal_of(Offer(offer.attempt, offer.next)) or begun

    def add(self, holder: H) -> None:
        """A session begins, without a carrier so far."""
        session = holder.session
        self._by_name[session.name] = self._begun[session.begun_as] = holder
        self._detached[session.name] = holder

    def attached(self, holder: H) -> None:
        """A session has a carrier."""
        self._detached.pop(holder.session.name, None)

    def detach(self, holder: H) -> H | None:
        """A session has no carrier any more.

        Returns:
            The session that has been without one for the longest time, if there are too many; it has to end.
        """
        name = holder.session.name
        if name in self._by_name:
            self._detached[name] = holder
        return next(iter(self._detached.values())) if len(self._detached) > self._max_detached else None

    def remove(self, holder: H, now: float, answered: bool) -> None:
        """A session has ended; does nothing the second time.

        Args:
            holder: its holder.
            now: seconds.
            answered: whether both sides know. If only the window has ended, the client may still ask for the session
                by the server's name, and is given a new one.
        """
        session = holder.session
        if self._by_name.get(session.name) is not holder:
            return
        del self._by_name[session.name], self._begun[session.begun_as]
        self._detached.pop(session.name, None)
        self._forget_finished(now)
        # A name that is remembered already is not moved to the end, where its time would be out of order.
        for name in (session.name, session.begun_as) if answered else (session.begun_as,):
            self._finished.setdefault(name, now + REMEMBERED)
        while len(self._finished) > 2 * self._max_detached:
            self._finished.popitem(last=False)

    def _forget_finished(self, now: float) -> None:
        while self._finished and next(iter(self._finished.values())) <= now:
            self._finished.popitem(last=False)
