"""``authorize`` decides whether a peer may connect, before its handshake is answered."""

from __future__ import annotations

import pytest

from tests.conftest import MakeLab
from tests.support.lab import Lab
from tests.support.peer import Denied
from tests.support.waiting import eventually

DOORS = "@tests.support.apps.doors:"


def denial_of(lab: Lab) -> Denied:
    """How the handshake was refused."""
    with pytest.raises(Denied) as denied:
        lab.connect("/push")
    return denied.value


def test_true_lets_the_peer_in(lab: MakeLab) -> None:
    """Its client id is then the id of the connection."""
    made = lab(authorize=f"{DOORS}allow")
    made.connect("/push")
    assert made.connections[0]["client_id"] == made.connections[0]["id"]


def test_false_refuses_the_handshake(lab: MakeLab) -> None:
    """The answer is 403, and the handler never runs."""
    made = lab(authorize=f"{DOORS}refuse")
    answer = denial_of(made).answer
    assert (answer.status, answer.body) == (403, b"not authorized\n")
    assert made.statistics["opened"] == 0


def test_a_returned_close_sets_status_and_body_of_the_refusal(lab: MakeLab) -> None:
    """A ``Close`` names the HTTP status; its reason becomes the body."""
    answer = denial_of(lab(authorize=f"{DOORS}ban")).answer
    assert (answer.status, answer.body) == (401, b"banned\n")


def test_a_returned_string_is_the_client_id(lab: MakeLab) -> None:
    """The peer can be reached under that id from the start."""
    made = lab(authorize=f"{DOORS}name")
    peer = made.connect("/push", headers=[("X-Name", "ann")])
    assert made.call("get_active_connections") == ["ann"]
    assert made.call("send_to_client", "ann", "hello ann") is True
    assert peer.receive() == "hello ann"


def test_an_exception_refuses_the_handshake_and_is_logged(lab: MakeLab) -> None:
    """``authorize`` fails closed; the error is in the log, not in the answer."""
    made = lab(authorize=f"{DOORS}break_down")
    made.forgive("LookupError: the user database is away")
    answer = denial_of(made).answer
    assert answer.status == 403
    assert b"database" not in answer.body
    eventually(lambda: "ERROR wsstab" in made.log)
    eventually(lambda: "the user database is away" in made.log)


def test_a_refusal_frees_its_place(lab: MakeLab) -> None:
    """A place that was not freed would turn the second answer into 503."""
    made = lab(authorize=f"{DOORS}refuse", max_connections=1)
    assert [denial_of(made).status for _ in range(3)] == [403] * 3
