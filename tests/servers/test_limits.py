"""Limits hold exactly, say why, and harm nobody who keeps to them."""

from __future__ import annotations

import re
import time

import pytest

from tests.conftest import MakeLab
from tests.support.crowd import Crowd
from tests.support.frames import TEXT, Frame
from tests.support.lab import Lab
from tests.support.peer import Denied, Peer, Vanished
from tests.support.server import Variant
from tests.support.waiting import eventually


def denial_of(lab: Lab, path: str, **handshake: object) -> Denied:
    """How the handshake was refused."""
    with pytest.raises(Denied) as denied:
        lab.connect(path, **handshake)
    return denied.value


# Sizes


def test_a_message_may_be_as_large_as_allowed(lab: MakeLab) -> None:
    """The limit counts bytes of UTF-8, of the whole message."""
    peer = lab(max_message_size=1000).connect("/echo")
    for message in ("é" * 500, b"x" * 1000):
        peer.send(message)
        assert peer.receive() == message
    peer.send_fragments(TEXT, b"x" * 500, b"y" * 500)
    assert len(peer.receive()) == 1000


@pytest.mark.parametrize("message", ["é" * 501, b"x" * 1001])
def test_a_larger_message_closes_with_1009(lab: MakeLab, message: str | bytes) -> None:
    """The handler never sees the message, only what came before it and the end."""
    made = lab(max_message_size=1000)
    peer = made.connect("/echo")
    peer.send("small")
    assert peer.receive() == "small"
    peer.send(message)
    assert peer.receive_close().code == 1009
    assert peer.count(TEXT) == 1
    assert made.note()["code"] in (1009, 1006)
    assert made.event("ConnectionClosed")["code"] == 1009


def test_fragments_that_are_too_large_together_close_with_1009(lab: MakeLab) -> None:
    """No single frame is over the limit, but the message is."""
    peer = lab(max_message_size=1000).connect("/echo")
    peer.send_fragments(TEXT, b"x" * 600, b"y" * 600)
    assert peer.receive_close().code == 1009


def test_a_larger_message_closes_with_1009_even_if_nobody_reads_it(lab: MakeLab) -> None:
    """A push-only handler is protected like any other."""
    peer = lab(max_message_size=1000).connect("/push")
    peer.send("x" * 1001)
    assert peer.receive_close().code == 1009


# Handshakes


def test_simultaneous_handshakes_fill_the_limit_exactly(lab: MakeLab) -> None:
    """500 at once for 100 places: exactly 100 succeed, and the rest are told to come back."""
    made = lab(max_connections=100)
    with Crowd(made.server.address) as crowd:
        statuses = crowd.open(made.path("/push"), 500)
        assert (statuses.count(101), statuses.count(503)) == (100, 400)
        assert made.call("get_connection_count") == 100
        assert made.statistics["refused"] == {"max_connections": 400}
        assert int(denial_of(made, "/push").answer.header("retry-after") or 0) > 0
        crowd.leave("fin")
        made.wait_for_connections(0, within=10)
        assert crowd.open(made.path("/push"), 100).count(101) == 100


def test_a_refusal_is_plain_text(lab: MakeLab) -> None:
    """A person with curl can read it."""
    answer = denial_of(full(lab), "/push").answer
    assert (answer.status, answer.body) == (503, b"connection limit reached\n")
    assert (answer.header("content-type") or "").startswith("text/plain")


def test_a_refusal_logs_no_error(lab: MakeLab) -> None:
    """A refusal, by a limit or by the handler, needs no attention from somebody who watches the log for errors."""
    made = full(lab)
    denial_of(made, "/push")
    eventually(lambda: "connection limit reached" in made.log)
    roomy = lab()
    for path in ("/closes-early", "/denies"):
        denial_of(roomy, path)
    made.server.get("/-/health")
    assert re.findall(r"^.*\bERROR\b.*$", made.log, re.MULTILINE) == []


def full(lab: MakeLab) -> Lab:
    """A lab with one place that is taken."""
    made = lab(max_connections=1)
    made.connect("/push")
    return made


def test_a_refusal_is_an_event(lab: MakeLab) -> None:
    """The event names the option, the path without its query, and the address."""
    made = full(lab)
    denial_of(made, "/push?token=secret")
    event = made.event("LimitHit")
    assert (event["limit"], event["path"], event["address"]) == ("max_connections", "/push", "127.0.0.1")


def test_a_handler_that_does_not_accept_frees_its_place(lab: MakeLab) -> None:
    """It may close, deny, return or fail before accept."""
    made = lab(max_connections=1)
    made.forgive("Failure")
    for path in ("/closes-early", "/denies", "/returns-early", "/raises-early", "/nowhere") * 2:
        assert denial_of(made, path).status != 503
    made.connect("/push")
    # daphne logs a failure up to a second later.
    eventually(lambda: made.log.count("raise Failure") >= 2)


def test_connections_of_an_address_are_limited(lab: MakeLab) -> None:
    """The limit is exact even when all come at once, and another address is still accepted."""
    made = lab(max_connections_per_address=3)
    with Crowd(made.server.address) as crowd:
        statuses = crowd.open(made.path("/push"), 30)
        assert (statuses.count(101), statuses.count(429)) == (3, 27)
        denied = denial_of(made, "/push").answer
        assert (denied.status, denied.body) == (429, b"too many connections from this address\n")
        assert int(denied.header("retry-after") or 0) > 0
        made.connect("/push", headers=[("X-Forwarded-For", "203.0.113.7")])
        assert "203.0.113.7" in [connection["address"] for connection in made.connections]


def test_a_callable_can_determine_the_address(lab: MakeLab) -> None:
    """``client_address`` takes the scope and returns what counts as one address."""
    made = lab(max_connections_per_address=1, client_address="@tests.support.apps.doors:forwarded")
    made.connect("/push", headers=[("X-Address", "here")])
    made.connect("/push", headers=[("X-Address", "there")])
    assert denial_of(made, "/push", headers=[("X-Address", "here")]).status == 429


def test_a_handshake_that_is_not_accepted_in_time_is_refused(lab: MakeLab) -> None:
    """The peer may come back; the handler is cancelled and its place is free."""
    made = lab(accept_timeout=0.3, max_connections=1)
    began = time.monotonic()
    assert denial_of(made, "/never-accepts").status == 503
    assert 0.25 <= time.monotonic() - began < 1.5
    made.connect("/push")


# Times


def test_an_idle_connection_is_closed(lab: MakeLab, variant: Variant) -> None:
    """Heartbeats are not application messages; a heartbeat message is not repeated before it is answered."""
    kind, heartbeat = variant.heartbeat
    made = lab(idle_timeout=0.6, heartbeat_interval=0.1, heartbeat_type=kind)
    peer = made.connect("/echo")
    close = peer.receive_close()
    assert (close.code, close.reason) == (4408, "idle timeout")
    assert peer.count(heartbeat) >= (2 if kind == "ping" else 1)


def test_messages_in_either_direction_keep_a_connection_busy(lab: MakeLab) -> None:
    """The first peer only sends, the second only receives; both outlive the timeout."""
    made = lab(idle_timeout=1.0)
    sender, receiver = made.connect("/push"), made.connect("/tick")
    for _ in range(15):
        sender.send("busy")
        receiver.read_for(0.1)
    assert made.call("get_connection_count") == 2


def test_a_connection_over_its_maximum_age_is_closed(lab: MakeLab) -> None:
    """It ends a tenth earlier or later, so that not all peers come back at once; traffic does not prevent it."""
    made = lab(max_connection_age=1.0)
    opened = time.monotonic()
    close = made.connect("/tick").receive_close()
    assert (close.code, close.reason) == (1012, "maximum connection age")
    assert 0.85 <= time.monotonic() - opened < 2.0


# Rates


def test_too_many_messages_close_the_connection(lab: MakeLab) -> None:
    """The messages within the burst are received."""
    made = lab(rate_limit={"messages_per_second": 1, "burst": 5})
    peer = made.connect("/echo")
    # In one piece: some servers end the connection so soon that a later send would fail.
    peer.send_raw(b"".join(Frame(TEXT, str(number).encode()).encode() for number in range(20)))
    close = peer.receive_close()
    assert (close.code, close.reason) == (1008, "rate limit exceeded")
    assert 6 <= made.statistics["messages_received"] <= 7
    assert 0 < peer.count(TEXT) <= 6


def test_too_many_bytes_close_the_connection(lab: MakeLab) -> None:
    """The rate of messages is far from its limit."""
    limit = {"messages_per_second": 1000, "burst": 1000, "bytes_per_second": 10_000}
    made = lab(rate_limit=limit)
    peer = made.connect("/echo")
    peer.send_raw(Frame(TEXT, b"x" * 4000).encode() * 5)
    assert peer.receive_close().code == 1008
    assert 3 <= made.statistics["messages_received"] <= 4
    assert 0 < peer.count(TEXT) <= 3


def test_too_many_messages_can_be_delayed(lab: MakeLab) -> None:
    """All are received in order, at the allowed rate."""
    peer = lab(rate_limit={"messages_per_second": 20, "burst": 1, "action": "delay"}).connect("/echo")
    began = time.monotonic()
    for number in range(21):
        peer.send(str(number))
    assert peer.receive_many(21) == [str(number) for number in range(21)]
    assert 0.9 <= time.monotonic() - began < 4.0


def test_too_many_messages_can_be_dropped(lab: MakeLab) -> None:
    """The connection lives on, and the dropped messages are counted."""
    made = lab(rate_limit={"messages_per_second": 0.1, "burst": 5, "action": "drop"})
    peer = made.connect("/echo")
    for number in range(50):
        peer.send(str(number))
    assert peer.receive_many(5) == [str(number) for number in range(5)]
    eventually(lambda: made.statistics["dropped_inbound"] == 45)
    assert made.call("get_connection_count") == 1


# Messages that wait for the handler


def test_the_messages_that_a_handler_never_reads_are_bounded(lab: MakeLab) -> None:
    """The oldest are dropped and counted, the peer stays, and the memory of the server does not grow."""
    made = lab(inbound={"max_messages": 10, "max_bytes": 300_000})
    peer = made.connect("/deaf")
    before = made.server.rss
    for _ in range(1000):
        peer.send(b"x" * 65536)
    eventually(lambda: made.connections[0]["statistics"]["messages_received"] == 1000, within=10)
    counted = made.connections[0]["statistics"]
    assert counted["dropped_inbound"] >= 990
    assert counted["unread_messages"] <= 10
    assert counted["unread_bytes"] <= 300_000 + 65536
    assert made.server.rss - before < 20 << 20


def test_a_slow_reader_loses_nothing(lab: MakeLab) -> None:
    """Its peer has to wait instead."""
    made = lab(inbound={"max_messages": 4, "max_bytes": 65536})
    peer = made.connect("/slow-reader?pause=0.002")
    for number in range(300):
        peer.send(str(number))
    assert peer.receive_many(300) == [str(number) for number in range(300)]
    assert made.statistics["dropped_inbound"] == 0


def test_a_flood_waits_for_a_slow_reader(lab: MakeLab) -> None:
    """Once the queue for the handler is full, the sends of the peer block."""
    made = lab(inbound={"max_messages": 4, "max_bytes": 65536})
    peer = made.connect("/slow-reader?pause=60")
    before = made.server.rss
    peer.socket.settimeout(1.0)
    with pytest.raises(TimeoutError):
        flood(peer, 64 << 20)
    assert made.server.rss - before < 20 << 20


def flood(peer: Peer, size: int) -> None:
    """Send this many bytes in messages of 64 KiB."""
    for _ in range(size // 65536):
        peer.send("x" * 65536)


def test_limits_can_differ_by_path(lab: MakeLab) -> None:
    """The first pattern that matches wins."""
    made = lab(max_message_size=1000, routes={"/ech*": {"max_message_size": 10}, "/echo": {"max_message_size": 5000}})
    strict, usual = made.connect("/echo"), made.connect("/iterate")
    strict.send("x" * 11)
    usual.send("x" * 11)
    assert usual.receive() == "x" * 11
    with pytest.raises(Vanished, match="close 1009"):
        strict.receive()
