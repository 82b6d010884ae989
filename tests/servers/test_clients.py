"""Several sockets with one client id: the newer one stays, the older one stays, or both do."""

from __future__ import annotations

import pytest

from tests.conftest import MakeLab
from tests.support.frames import TEXT
from tests.support.lab import Lab
from tests.support.peer import Denied, Peer
from tests.support.waiting import eventually


def named(lab: Lab, name: str) -> Peer:
    """A peer whose handler gave it this client id."""
    peer = lab.connect(f"/name/{name}")
    assert peer.receive() == "named"
    return peer


def test_an_unnamed_socket_has_the_id_of_its_connection(lab: MakeLab) -> None:
    """It can be reached under that id until it gets a client id."""
    made = lab()
    peer = made.connect("/echo")
    connection = made.connections[0]
    assert made.call("get_active_connections") == [connection["id"]] == [connection["client_id"]]
    assert made.call("send_to_client", connection["id"], {"a": [1, "é"]}) is True
    assert peer.receive() == '{"a":[1,"é"]}'


def test_a_newer_socket_replaces_the_older(lab: MakeLab) -> None:
    """The old socket is told not to come back, and its late clean-up does not touch the new one."""
    made = lab()
    old = named(made, "ann")
    new = named(made, "ann")
    close = old.receive_close()
    assert (close.code, close.reason) == (4409, "replaced by a newer connection")
    assert made.note() == "ann ended"
    assert made.call("get_active_connections") == ["ann"]
    made.call("send_to_client", "ann", "to the new one")
    assert new.receive() == "to the new one"
    assert old.count(TEXT) == 1


def test_a_newer_socket_can_be_rejected(lab: MakeLab) -> None:
    """``connect`` raises, and when the error escapes the handler it closes the new socket with 4409."""
    made = lab(duplicate_client="reject")
    old = named(made, "ann")
    assert made.connect("/name/ann").receive_close().code == 4409
    assert "ConnectionLimitExceededError" in made.notes
    made.call("send_to_client", "ann", "still here")
    assert old.receive() == "still here"


def test_several_sockets_of_one_client_can_be_allowed(lab: MakeLab) -> None:
    """A message to the client reaches all of them."""
    made = lab(duplicate_client="allow")
    both = [named(made, "ann"), named(made, "ann")]
    assert made.call("get_connection_count") == 2
    assert made.call("send_to_client", "ann", "both") is True
    assert [peer.receive() for peer in both] == ["both", "both"]


def test_sockets_of_one_client_can_be_limited(lab: MakeLab) -> None:
    """A socket over the limit is closed; the others stay."""
    made = lab(duplicate_client="allow", max_connections_per_client=2)
    named(made, "ann")
    named(made, "ann")
    close = made.connect("/name/ann").receive_close()
    assert (close.code, close.reason) == (1008, "too many connections of this client")
    assert made.call("get_connection_count") == 2


def test_a_client_may_return_when_all_places_are_taken(lab: MakeLab) -> None:
    """A client that ``authorize`` has named takes the place of its own older socket."""
    made = lab(max_connections=1, authorize="@tests.support.apps.doors:name")
    old = made.connect("/echo", headers=[("X-Name", "ann")])
    new = made.connect("/echo", headers=[("X-Name", "ann")])
    assert old.receive_close().code == 4409
    new.send("back again")
    assert new.receive() == "back again"


def test_user_data_lives_as_long_as_its_client(lab: MakeLab) -> None:
    """It counts as memory, and is freed when the client leaves."""
    made = lab()
    peer = named(made, "ann")
    made.call("set_user_data", "ann", "theme", "dark")
    assert made.call("get_user_data", "ann", "theme") == "dark"
    assert made.connections[0]["user_data"] == {"theme": "dark"}
    assert made.call("get_memory_usage")["total_memory"] > 0
    peer.close()
    made.wait_for_connections(0)
    assert made.call("get_user_data", "ann", "theme") is None
    assert made.call("get_memory_usage")["total_memory"] == 0


def test_over_the_memory_limit_the_least_recently_active_client_is_evicted(lab: MakeLab) -> None:
    """The close code 1013 tells it to come back later, and an event reports the eviction."""
    made = lab(max_total_memory=1_000_000, memory_check_interval=0.2)
    peers = {name: named(made, name) for name in ("ann", "bob", "cat")}
    for name in ("ann", "bob"):
        made.call("set_user_data", name, "blob", "x" * 400_000)
    eventually(lambda: active_after(made, peers["ann"], "bob"))
    made.call("set_user_data", "cat", "blob", "x" * 400_000)
    close = peers["bob"].receive_close()
    assert (close.code, close.reason) == (1013, "evicted: memory limit")
    assert made.event("ConnectionEvicted")["client_id"] == "bob"
    assert sorted(made.call("get_active_connections")) == ["ann", "cat"]


def active_after(lab: Lab, peer: Peer, other: str) -> bool:
    """Make ann active, and tell whether that was well after the last activity of the other client."""
    peer.send("ann is active")
    peer.receive()
    seen = {entry["client_id"]: entry["last_activity"] for entry in lab.connections}
    return bool(seen["ann"] - seen[other] > 0.3)


def test_data_of_one_client_is_limited(lab: MakeLab) -> None:
    """A value that does not fit is refused, and no part of it is kept."""
    made = lab(max_memory_per_connection=100_000)
    named(made, "ann")
    assert made.call("set_user_data", "ann", "blob", "x" * 200_000)["error"] == "MemoryLimitExceededError"
    assert made.call("get_user_data", "ann", "blob") is None


def test_a_name_and_rooms_set_before_accept_hold_after_it(lab: MakeLab) -> None:
    """An older socket with the same name is replaced, as it would be after accept."""
    made = lab()
    old = named(made, "ann")
    new = made.connect("/early/ann")
    assert new.receive() == "ann ['blue', 'red']"
    assert old.receive_close().code == 4409
    for room in ("red", "blue"):
        assert made.call("get_room_members", room) == ["ann"]
        made.call("broadcast", f"to {room}", room=room)
        assert new.receive() == f"to {room}"
    assert made.call("get_user_data", "ann", "colour") == "green"


def test_taking_a_used_name_before_accept_refuses_the_handshake(lab: MakeLab) -> None:
    """Under ``reject`` the answer is 409, the HTTP status that belongs to 4409."""
    made = lab(duplicate_client="reject")
    old = named(made, "ann")
    with pytest.raises(Denied) as denied:
        made.connect("/early/ann")
    assert denied.value.answer.status == 409
    made.call("send_to_client", "ann", "still here")
    assert old.receive() == "still here"
