"""A peer that leaves is noticed, whatever its handler does at that moment."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from tests.conftest import MakeLab
from tests.support.peer import Peer
from tests.support.waiting import eventually

BARE = "tests.support.apps.bare:app"
SLACK = 0.5
"""Seconds that a slow machine may add."""


def leave(peer: Peer, how: str) -> float:
    """Make the peer leave and give the time."""
    if how == "close":
        peer.close(4001)
    else:
        peer.vanish(how)
    return time.monotonic()


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_receiving_handler_learns_of_a_lost_peer_at_once(lab: MakeLab, how: str) -> None:
    """The event says 1006, because no close frame was exchanged (RFC 6455 section 7.1.5)."""
    made = lab()
    left = leave(made.connect("/echo"), how)
    event = made.event("ConnectionClosed")
    assert event["at"] - left < SLACK
    assert (event["code"], event["cause"]) == (1006, "client")
    assert made.note()["code"] in (1005, 1006)


@pytest.mark.parametrize("how", ["close", "fin", "rst"])
def test_a_push_only_handler_learns_of_a_lost_peer_within_a_second(lab: MakeLab, how: str) -> None:
    """It does so with zero, one or forty messages of its peer unread."""
    made = lab()
    peers = [made.connect("/push") for _ in range(3)]
    for peer, unread in zip(peers, (0, 1, 40), strict=True):
        for _ in range(unread):
            peer.send("unread")
    left = [leave(peer, how) for peer in peers]
    eventually(lambda: len(made.events("ConnectionClosed")) == 3)
    events = made.events("ConnectionClosed")
    assert max(event["at"] for event in events) - left[0] < 1 + SLACK
    assert {event["code"] for event in events} == {4001 if how == "close" else 1006}
    eventually(lambda: [note["cause"] for note in made.notes] == ["client"] * 3)


@pytest.mark.parametrize("how", ["close", "fin", "rst"])
def test_a_handler_that_only_sends_gets_the_error_of_its_framework(lab: MakeLab, how: str) -> None:
    """``send_text`` raises ``WebSocketDisconnect``, and the handler ends quietly."""
    made = lab()
    peer = made.connect("/tick")
    peer.receive()
    leave(peer, how)
    assert made.note(within=3)["code"] == 1006
    made.wait_for_connections(0)


def test_a_handler_that_floods_stops_when_its_peer_is_gone(lab: MakeLab) -> None:
    """A loop of sends must give the server a chance to see that the peer left."""
    made = lab()
    peer = made.connect("/flood?count=1000000")
    peer.receive()
    peer.vanish("rst")
    assert made.note(within=10)["code"] == 1006


def test_a_handler_that_floods_lets_others_be_served(lab: MakeLab) -> None:
    """Its peer reads faster than it sends, so its sends never have to wait for room."""
    made = lab()
    other, flooded = made.connect("/echo"), made.connect("/flood?count=10000000&size=8")
    with Reading(flooded) as reading:
        for number in range(10):
            had = reading.received
            eventually(lambda had=had: reading.received > had)  # type: ignore[misc]
            other.send(str(number))
            assert other.receive() == str(number)
    assert made.note(within=10)["code"] == 1006


class Reading(threading.Thread):
    """Reads all that comes to a peer, as fast as it can, until the peer leaves at the end of the block.

    Attributes:
        received: bytes so far.
    """

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.received = 0
        self._peer = peer

    def run(self) -> None:
        self._peer.socket.settimeout(None)
        with contextlib.suppress(OSError):
            while data := self._peer.socket.recv(1 << 20):
                self.received += len(data)

    def __enter__(self) -> Reading:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._peer.socket.shutdown(socket.SHUT_RDWR)
        self.join()
        self._peer.vanish("rst")


def test_the_disconnect_is_received_exactly_once(lab: MakeLab) -> None:
    """Later calls of receive raise, and send raises an OSError each time."""
    made = lab(BARE)
    leave(made.connect("/receive-again"), "fin")
    kind, *outcomes = made.note(within=10)
    assert kind == "websocket.disconnect"
    assert [set(outcome) for outcome in outcomes] == [{"error", "os_error"}] * 4
    assert [outcome["os_error"] for outcome in outcomes[2:]] == [True, True]


@pytest.mark.parametrize("how", ["close", "fin", "rst"])
def test_sending_to_a_peer_that_left_raises_an_oserror(lab: MakeLab, how: str) -> None:
    """Each send fails at once, with the same class of error on every implementation."""
    made = lab(BARE)
    leave(made.connect("/send-after-gone"), how)
    assert made.note() == [{"error": "PeerGoneError", "os_error": True}] * 2


@pytest.mark.parametrize("how", ["close", "fin", "rst"])
def test_a_handler_that_sends_to_a_lost_peer_receives_its_disconnect(lab: MakeLab, how: str) -> None:
    """Frameworks clean up on the disconnect; the send fails only where the ASGI version promises an error."""
    made = lab(BARE)
    leave(made.connect("/send-before-told"), how)
    sent, received = made.note(within=10)
    promised = made.server.variant.uvicorn
    assert sent == ({"error": "PeerGoneError", "os_error": True} if promised else {"result": "None"})
    assert received == "websocket.disconnect"


@pytest.mark.parametrize("how", ["close", "rst"])
def test_a_handler_that_never_receives_gets_its_error_from_send(lab: MakeLab, how: str) -> None:
    """It never asks for the disconnect, so on every server a send must fail in the end."""
    made = lab(BARE)
    leave(made.connect("/send-on"), how)
    assert made.note(within=10) == {"error": "PeerGoneError", "os_error": True}


def test_messages_that_came_before_the_end_are_still_received(lab: MakeLab) -> None:
    """They are received in order, then the disconnect with its code."""
    made = lab(BARE)
    peer = made.connect("/receive-late")
    for number in range(20):
        peer.send(f"message {number}")
    peer.close(4002)
    assert made.note() == [*(f"message {number}" for number in range(20)), 4002]


def test_a_deaf_handler_does_not_keep_a_lost_peer_registered(lab: MakeLab) -> None:
    """The connection is over once the peer leaves, however long its handler sleeps on."""
    made = lab()
    peer = made.connect("/deaf")
    made.wait_for_connections(1)
    peer.vanish()
    eventually(lambda: made.call("get_connection_count") == 0)
    assert made.statistics["closed"] == {"1006": 1}
