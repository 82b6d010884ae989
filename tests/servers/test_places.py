"""A limit counts what is held: sockets, handlers, handshakes under way."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import MakeLab
from tests.support.crowd import Crowd
from tests.support.handshake import Denied, request
from tests.support.lab import Lab
from tests.support.peer import open_socket
from tests.support.server import Variant
from tests.support.waiting import eventually
from wsstab.wires.tcp import peer_has_left

STATES = "tests.support.apps.states:app"
NAME = "@tests.support.apps.doors:name"


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    """What closes raw sockets at the end."""
    with ExitStack() as stack:
        yield stack


def status_of(made: Lab, path: str, name: str = "ann") -> int:
    """How one more handshake is answered; the peer stays."""
    try:
        made.connect(path, headers=[("x-name", name)])
    except Denied as denied:
        return denied.answer.status
    return 101


def knock(made: Lab, path: str, name: str, sockets: ExitStack) -> socket.socket:
    """A handshake that waits for its answer."""
    raw = sockets.enter_context(open_socket(made.server.address, None, None, 5))
    raw.sendall(request(made.path(path), "127.0.0.1", [("x-name", name)]))
    return raw


def admitted(made: Lab) -> int:
    """How many places are taken."""
    return int(made.server.get(f"/-/{made.key}/admitted"))


def test_a_place_is_free_when_the_socket_is(lab: MakeLab) -> None:
    """Peers that were closed, and do not leave, hold no more sockets than the limit says."""
    made = lab(STATES, max_connections_per_address=3)
    let_in = 0
    for _ in range(12):
        if status_of(made, "/closing") == 101:
            let_in += 1
            made.peers[-1].send("close, please")
            eventually(lambda: made.statistics["connections"] == 0)
        eventually(lambda: sum(not peer_has_left(peer.socket) for peer in made.peers) <= 3)
    assert let_in >= 3
    for peer in made.peers:
        peer.vanish()
    eventually(lambda: admitted(made) == 0, within=12)


def test_a_handler_that_goes_on_holds_its_place(lab: MakeLab) -> None:
    """A peer that resets cannot start ever more of them."""
    made = lab(max_connections=3)
    for _ in range(3):
        made.connect("/deaf").vanish("rst")
    eventually(lambda: made.statistics["connections"] == 0)
    assert [status_of(made, "/deaf") for _ in range(3)] == [503] * 3
    assert admitted(made) == 3


def test_one_name_replaces_itself_in_one_handshake_at_a_time(lab: MakeLab, sockets: ExitStack) -> None:
    """Where all places are taken, each of its handshakes would take one more until it is accepted."""
    made = lab(max_connections=2, authorize=NAME)
    assert [status_of(made, "/push", name) for name in ("ann", "bob")] == [101, 101]
    for _ in range(10):
        knock(made, "/never-accepts", "ann", sockets)
    eventually(lambda: made.statistics["refused"].get("max_connections") == 9)
    assert admitted(made) == 3
    assert made.call("get_connection_count") == 2


def test_who_is_replaced_counts_for_its_name_until_it_is_gone(lab: MakeLab) -> None:
    """A name that comes again and again, and whose sockets do not leave, takes one place more at a time."""
    made = lab(max_connections=2, authorize=NAME)
    most = 0
    for _ in range(20):
        status_of(made, "/push")
        most = max(most, admitted(made))
    assert most <= 3


def test_a_half_open_peer_makes_room_where_all_places_are_taken(lab: MakeLab, variant: Variant) -> None:
    """Long before its timeout, in the second or two that a probe takes."""
    made = lab(max_connections=1, **beats(variant))
    made.connect("/push")
    made.wait_for_connections(1)
    eventually(lambda: status_of(made, "/push") == 101, within=8)


def test_all_who_come_during_a_probe_get_what_it_frees(lab: MakeLab, variant: Variant, sockets: ExitStack) -> None:
    """One of them asks the silent peers, and the others wait for what comes of it."""
    made = lab(max_connections=3, **beats(variant))
    for _ in range(3):
        made.connect("/push")
    eventually(lambda: made.statistics["heartbeats_sent"] >= 3)
    asked = time.monotonic()
    # An answer is late after a second.
    eventually(lambda: time.monotonic() - asked > 1.5)
    came = [knock(made, "/push", "ann", sockets) for _ in range(3)]
    assert [raw.recv(12) for raw in came] == [b"HTTP/1.1 101"] * 3


def test_a_peer_that_answers_keeps_its_place(lab: MakeLab, variant: Variant) -> None:
    """Whoever knocks, and however often."""
    made = lab(max_connections=1, **beats(variant))
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/push"), 1)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert status_of(made, "/push") == 503
            time.sleep(0.1)
        assert made.call("get_connection_count") == 1


def beats(variant: Variant) -> dict[str, Any]:
    """A heartbeat that finds out a silent peer late."""
    times = {"heartbeat_interval": 0.5, "heartbeat_timeout": 60}
    return times if variant.traits.native_ping else {**times, "heartbeat_type": "custom"}


def test_one_that_replaces_is_let_in_where_all_places_are_taken(lab: MakeLab) -> None:
    """It takes the place of its predecessor, again and again."""
    made = lab(max_connections=2, authorize=NAME)
    for name in ("ann", "bob", "ann", "ann", "ann"):
        assert status_of(made, "/push", name) == 101
        eventually(lambda: admitted(made) <= 2, within=12)
    assert status_of(made, "/push", "cyd") == 503


@pytest.mark.parametrize(("how", "status"), [("allow", 429), ("reject", 409)])
def test_a_name_that_may_not_be_had_is_refused_before_accept(lab: MakeLab, how: str, status: int) -> None:
    """Where ``authorize`` says whose it is."""
    options = {"max_connections_per_client": 1} if how == "allow" else {}
    made = lab(authorize=NAME, duplicate_client=how, **options)
    assert [status_of(made, "/push") for _ in range(3)] == [101, status, status]


def test_handshakes_under_way_count_for_a_name(lab: MakeLab, sockets: ExitStack) -> None:
    """Any number of them at once never exceed its limit."""
    made = lab(authorize=NAME, duplicate_client="allow", max_connections_per_client=2)
    for _ in range(6):
        knock(made, "/never-accepts", "ann", sockets)
    eventually(lambda: made.statistics["refused"].get("max_connections_per_client") == 4)
    assert admitted(made) == 2
