"""Who may come in is decided before the handshake."""

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


def test_true_lets_in(lab: MakeLab) -> None:
    """Under no name of its own."""
    made = lab(authorize=f"{DOORS}allow")
    made.connect("/push")
    assert made.connections[0]["client_id"] == made.connections[0]["id"]


def test_false_refuses(lab: MakeLab) -> None:
    """With 403, and the handler never runs."""
    made = lab(authorize=f"{DOORS}refuse")
    answer = denial_of(made).answer
    assert (answer.status, answer.body) == (403, b"not authorized\n")
    assert made.statistics["opened"] == 0


def test_a_close_refuses_in_its_own_words(lab: MakeLab) -> None:
    """Its status and its reason."""
    answer = denial_of(lab(authorize=f"{DOORS}ban")).answer
    assert (answer.status, answer.body) == (401, b"banned\n")


def test_a_string_is_the_client_id(lab: MakeLab) -> None:
    """From the first moment on."""
    made = lab(authorize=f"{DOORS}name")
    peer = made.connect("/push", headers=[("X-Name", "ann")])
    assert made.call("get_active_connections") == ["ann"]
    assert made.call("send_to_client", "ann", "hello ann") is True
    assert peer.receive() == "hello ann"


def test_a_failure_refuses_and_is_logged(lab: MakeLab) -> None:
    """Closed in doubt; the error is in the log, not in the answer."""
    made = lab(authorize=f"{DOORS}break_down")
    made.forgive("LookupError: the user database is away")
    answer = denial_of(made).answer
    assert answer.status == 403
    assert b"database" not in answer.body
    eventually(lambda: "ERROR wsstab" in made.log)
    eventually(lambda: "the user database is away" in made.log)


def test_a_refusal_gives_its_place_back(lab: MakeLab) -> None:
    """However often it happens."""
    made = lab(authorize=f"{DOORS}refuse", max_connections=1)
    assert [denial_of(made).status for _ in range(3)] == [403] * 3
