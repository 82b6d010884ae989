"""`wsstab.hub.sessions`: which session an offer asks for, and which names are remembered."""

from __future__ import annotations

from tests.core.test_session import Handed
from wsstab.core.frames import Outgoing
from wsstab.core.protocol import Offer
from wsstab.core.queue import OutboundQueue
from wsstab.core.session import Refusal, Session
from wsstab.hub.sessions import Sessions

FINISHED = Refusal("finished", "new")


class Holder:
    """Whoever runs the handler of a session."""

    def __init__(self, name: str, begun_as: str) -> None:
        queue: OutboundQueue[Outgoing] = OutboundQueue(None, None, "close")
        self.session = Session(name, begun_as, 1, Handed(), queue, max_messages=10, max_bytes=1000)


def table(*holders: Holder, max_detached: int = 10) -> Sessions[Holder]:
    """A table with these sessions, none of which has a carrier."""
    sessions: Sessions[Holder] = Sessions(max_detached)
    for each in holders:
        sessions.add(each)
    return sessions


def test_a_session_is_found_by_the_server_s_name() -> None:
    """Its machine decides whether the offer may have it."""
    ann = Holder("s1", "a1")
    sessions = table(ann, Holder("s2", "b1"))
    assert sessions.find(Offer(2, "a2", "s1"), 0.0) is ann
    assert sessions.find(Offer(2, None, "s1"), 0.0) is ann
    assert sessions.find(Offer(1, "a2", "s1"), 0.0) == Refusal("late", "new")


def test_tries_before_the_first_hello_find_the_session_that_the_first_one_began() -> None:
    """Otherwise a lost hello would run a second handler."""
    ann = Holder("s1", "a1")
    sessions = table(ann)
    assert sessions.find(Offer(2, "a1"), 0.0) is ann
    assert sessions.find(Offer(1, "a1"), 0.0) == Refusal("late", "new")
    assert sessions.find(Offer(1, "a2"), 0.0) is None


def test_a_client_asks_for_a_forgotten_session_and_gets_a_new_one() -> None:
    """By the next name of its offer, which may have begun a session as well."""
    ann = Holder("s1", "a2")
    sessions = table(ann)
    assert sessions.find(Offer(2, "a1", "gone"), 0.0) is None
    assert sessions.find(Offer(2, "a2", "gone", 17), 0.0) is ann


def test_a_client_that_is_about_to_close_begins_nothing() -> None:
    """What cannot be resumed is over for it."""
    assert table().find(Offer(2, None, "gone"), 0.0) == Refusal("finished", None)


def test_no_offer_begins_again_what_is_finished() -> None:
    """Under neither of its names, for 60 s."""
    ann = Holder("s1", "a1")
    sessions = table(ann)
    sessions.remove(ann, 100.0, answered=True)
    assert len(sessions) == 0
    assert sessions.find(Offer(2, "a1"), 159.9) == FINISHED
    assert sessions.find(Offer(2, "a2", "s1"), 159.9) == FINISHED
    assert sessions.find(Offer(2, "a1"), 160.0) is None
    assert sessions.find(Offer(2, "a2", "s1"), 160.0) is None


def test_after_a_window_the_client_may_ask_for_the_session_and_gets_a_new_one() -> None:
    """It does not know that the window has ended; a late handshake of its first try begins nothing, though."""
    ann = Holder("s1", "a1")
    sessions = table(ann)
    sessions.remove(ann, 100.0, answered=False)
    assert sessions.find(Offer(2, "a2", "s1"), 100.0) is None
    assert sessions.find(Offer(2, "a1"), 100.0) == FINISHED


def test_a_session_is_removed_once() -> None:
    """Its end is noticed by several parties."""
    ann = Holder("s1", "a1")
    sessions = table(ann)
    sessions.remove(ann, 100.0, answered=False)
    sessions.remove(ann, 110.0, answered=True)
    assert sessions.find(Offer(2, "a2", "s1"), 110.0) is None
    assert sessions.detach(ann) is None
    assert sessions.detached == 0


def test_the_remembered_names_are_bounded() -> None:
    """Two for each session that may be detached; the oldest are forgotten."""
    holders = [Holder(f"s{number}", f"a{number}") for number in range(3)]
    sessions = table(*holders, max_detached=2)
    for each in holders:
        sessions.remove(each, 0.0, answered=True)
    assert sessions.find(Offer(2, "a0"), 0.0) is None
    assert sessions.find(Offer(2, "a1"), 0.0) == FINISHED
    assert repr(sessions) == "<Sessions [0, 0 detached | 4 names remembered]>"


def test_the_session_that_is_detached_for_the_longest_time_goes_first() -> None:
    """A session counts as detached from its beginning to its first carrier."""
    ann, bob, cid = (Holder(f"s{name}", f"a{name}") for name in "abc")
    sessions = table(ann, bob, cid, max_detached=2)
    sessions.attached(ann)
    sessions.attached(bob)
    assert sessions.detached == 1
    assert sessions.detach(bob) is None
    sessions.attached(cid)
    assert sessions.detach(ann) is None
    assert sessions.detach(cid) is bob
    sessions.remove(bob, 0.0, answered=False)
    assert sessions.detached == 2
