"""A limit counts everything that is held: sockets, handlers, and handshakes under way."""

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
    """A stack that closes raw sockets at the end of the test."""
    with ExitStack() as stack:
        yield stack


def status_of(made: Lab, path: str, name: str = "ann") -> int:
    """The status that one more handshake gets; a peer that is let in stays."""
    try:
        made.connect(path, headers=[("x-name", name)])
    except Denied as denied:
        return denied.answer.status
    return 101


def knock(made: Lab, path: str, name: str, sockets: ExitStack) -> socket.socket:
    """Send a handshake and do not wait for its answer."""
    raw = sockets.enter_context(open_socket(made.server.address, None, None, 5))
    raw.sendall(request(made.path(path), "127.0.0.1", [("x-name", name)]))
    return raw


def admitted(made: Lab) -> int:
    """How many places are taken."""
    return int(made.server.get(f"/-/{made.key}/admitted"))


def test_a_place_is_held_until_its_socket_is_closed(lab: MakeLab) -> None:
    """Peers that were closed but do not leave hold no more sockets than the limit allows."""
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


def test_a_handler_that_runs_on_holds_its_place(lab: MakeLab) -> None:
    """A peer that resets its connections cannot start more and more handlers."""
    made = lab(max_connections=3)
    for _ in range(3):
        made.connect("/deaf").vanish("rst")
    eventually(lambda: made.statistics["connections"] == 0)
    assert [status_of(made, "/deaf") for _ in range(3)] == [503] * 3
    assert admitted(made) == 3


def test_only_one_handshake_at_a_time_may_replace_a_client(lab: MakeLab, sockets: ExitStack) -> None:
    """Where all places are taken, each such handshake takes an extra one until it is accepted."""
    made = lab(max_connections=2, authorize=NAME)
    assert [status_of(made, "/push", name) for name in ("ann", "bob")] == [101, 101]
    for _ in range(10):
        knock(made, "/never-accepts", "ann", sockets)
    eventually(lambda: made.statistics["refused"].get("max_connections") == 9)
    assert admitted(made) == 3
    assert made.call("get_connection_count") == 2


def test_a_replaced_socket_counts_for_its_client_until_it_is_gone(lab: MakeLab) -> None:
    """A client that connects again and again, and whose sockets do not leave, takes one extra place at a time."""
    made = lab(max_connections=2, authorize=NAME)
    most = 0
    for _ in range(20):
        status_of(made, "/push")
        most = max(most, admitted(made))
    assert most <= 3


def test_a_half_open_peer_makes_room_when_all_places_are_taken(lab: MakeLab, variant: Variant) -> None:
    """A probe finds it within a second or two, long before its heartbeat times out."""
    made = lab(max_connections=1, **beats(variant))
    made.connect("/push")
    made.wait_for_connections(1)
    eventually(lambda: status_of(made, "/push") == 101, within=8)


def test_all_handshakes_during_a_probe_get_the_places_that_it_frees(
    lab: MakeLab, variant: Variant, sockets: ExitStack
) -> None:
    """The first of them probes the silent peers, and the others wait for the outcome."""
    made = lab(max_connections=3, **beats(variant))
    for _ in range(3):
        made.connect("/push")
    eventually(lambda: made.statistics["heartbeats_sent"] >= 3)
    asked = time.monotonic()
    # After a second without an answer a peer counts as silent.
    eventually(lambda: time.monotonic() - asked > 1.5)
    came = [knock(made, "/push", "ann", sockets) for _ in range(3)]
    assert [raw.recv(12) for raw in came] == [b"HTTP/1.1 101"] * 3


def test_a_peer_that_answers_keeps_its_place(lab: MakeLab, variant: Variant) -> None:
    """New handshakes do not cost it its place, however many there are."""
    made = lab(max_connections=1, **beats(variant))
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/push"), 1)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert status_of(made, "/push") == 503
            time.sleep(0.1)
        assert made.call("get_connection_count") == 1


def beats(variant: Variant) -> dict[str, Any]:
    """A heartbeat that takes a minute to drop a silent peer."""
    times = {"heartbeat_interval": 0.5, "heartbeat_timeout": 60}
    return times if variant.traits.native_ping else {**times, "heartbeat_type": "custom"}


def test_a_replacing_socket_is_let_in_when_all_places_are_taken(lab: MakeLab) -> None:
    """It takes over the place of its predecessor, any number of times."""
    made = lab(max_connections=2, authorize=NAME)
    for name in ("ann", "bob", "ann", "ann", "ann"):
        assert status_of(made, "/push", name) == 101
        eventually(lambda: admitted(made) <= 2, within=12)
    assert status_of(made, "/push", "cyd") == 503


@pytest.mark.parametrize(("how", "status"), [("allow", 429), ("reject", 409)])
def test_a_client_id_that_is_taken_is_refused_before_accept(lab: MakeLab, how: str, status: int) -> None:
    """``authorize`` names the client, so the handshake itself can be refused."""
    options = {"max_connections_per_client": 1} if how == "allow" else {}
    made = lab(authorize=NAME, duplicate_client=how, **options)
    assert [status_of(made, "/push") for _ in range(3)] == [101, status, status]


def test_handshakes_under_way_count_for_their_client(lab: MakeLab, sockets: ExitStack) -> None:
    """Many of them at once do not exceed the limit of the client."""
    made = lab(authorize=NAME, duplicate_client="allow", max_connections_per_client=2)
    for _ in range(6):
        knock(made, "/never-accepts", "ann", sockets)
    eventually(lambda: made.statistics["refused"].get("max_connections_per_client") == 4)
    assert admitted(made) == 2
