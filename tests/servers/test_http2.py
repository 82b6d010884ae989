"""WebSockets over HTTP/2 (RFC 8441), which hypercorn speaks: streams of one connection are independent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import MakeLab
from tests.support.frames import BINARY, CLOSE, PING, TEXT
from tests.support.http2 import Http2Connection
from tests.support.lab import Lab
from tests.support.server import HYPERCORN
from tests.support.waiting import eventually

pytestmark = pytest.mark.parametrize("variant", HYPERCORN, indirect=True, ids=str)


def test_messages_come_back(lab: MakeLab) -> None:
    """Two streams of one connection each get their own messages back."""
    made = lab()
    with Http2Connection(made.server.address) as connection:
        one, two = (connection.connect(made.path("/echo")) for _ in range(2))
        one.send("x" * 10_000)
        two.send("two")
        assert (one.wait(TEXT).text, two.wait(TEXT).text) == ("x" * 10_000, "two")
        made.wait_for_connections(2)


def test_a_broadcast_arrives_before_the_close_that_follows_it(lab: MakeLab) -> None:
    """Its messages arrive in order, then the close ends this stream; the other one lives on."""
    made = lab()
    with Http2Connection(made.server.address) as connection:
        leaves = connection.connect(made.path("/push"))
        made.wait_for_connections(1)
        name = made.connections[0]["client_id"]
        stays = connection.connect(made.path("/push"))
        made.wait_for_connections(2)
        made.burst(20, 2048)
        made.call("disconnect", name, 4000, "done")
        close = leaves.wait(CLOSE)
        assert (close.code, close.reason) == (4000, "done")
        assert [frame.text[:8] for frame in leaves.frames[:-1]] == [f"{number:08d}" for number in range(20)]
        assert leaves.wait_for_end() == "end"
        stays.wait(TEXT, 20)
        made.wait_for_connections(1)


def test_the_handler_sees_code_and_reason_of_the_peer(lab: MakeLab) -> None:
    """The peer gets its code back."""
    made = lab()
    with Http2Connection(made.server.address) as connection:
        peer = connection.connect(made.path("/echo"))
        peer.close(4001, "bye")
        assert peer.wait(CLOSE).code == 4001
        assert made.note() == {"code": 4001, "reason": "bye"}


def test_a_stream_that_answers_no_pings_is_reset(lab: MakeLab) -> None:
    """Only that stream is reset; a neighbour on the same connection answers its pings and lives on."""
    made = lab(heartbeat_interval=0.3, heartbeat_timeout=0.5)
    with Http2Connection(made.server.address) as connection:
        dead, alive = (connection.connect(made.path("/push")) for _ in range(2))
        dead.answers_pings = False
        alive.wait(PING, 4)
        assert dead.wait_for_end() == "reset"
        alive.wait(PING, 6)
        assert made.call("get_connection_count") == 1
        assert made.connections[0]["latency"] is not None


def test_a_stalled_stream_is_cut_off(lab: MakeLab) -> None:
    """Data that flow control holds back counts as not taken."""
    made = lab(outbound={"policy": "drop_oldest", "send_timeout": 0.5})
    with Http2Connection(made.server.address) as connection:
        stalled, healthy = connection.connect(made.path("/push"), reads=False), connection.connect(made.path("/push"))
        made.wait_for_connections(2)
        fill(made)
        assert stalled.wait_for_end(10) == "reset"
        assert made.event("ConnectionClosed")["code"] == 1013
        healthy.wait(BINARY, 1)
        assert made.call("get_connection_count") == 1


def test_a_peer_may_answer_a_close_after_its_call_has_ended(lab: MakeLab) -> None:
    """The peer must answer, but hypercorn has forgotten the stream by then. Its neighbours are not affected."""
    made = lab()
    with Http2Connection(made.server.address) as connection:
        neighbour, closed = connection.connect(made.path("/echo")), connection.connect(made.path("/returns"))
        assert closed.wait(CLOSE).code == 1000
        eventually(lambda: made.call("get_connection_count") == 1)
        closed.close(1000)
        neighbour.send("still here")
        assert neighbour.wait(TEXT).text == "still here"


def test_a_stalled_stream_whose_two_sides_close_does_not_stop_others(lab: MakeLab) -> None:
    """Our close frame waits behind data that the stream does not take; other streams are still read."""
    made = lab()
    with Http2Connection(made.server.address) as connection:
        stalled = connection.connect(made.path("/push"), reads=False)
        made.wait_for_connections(1)
        name = made.connections[0]["client_id"]
        made.burst(1, 100_000, text=False)
        neighbour = connection.connect(made.path("/echo"))
        made.wait_for_connections(2)
        with ThreadPoolExecutor(1) as pool:
            closing = pool.submit(made.call, "disconnect", name, 4000, "done")
            eventually(lambda: made.call("get_connection_count") == 1)
            stalled.close(1000)
            for _ in range(3):
                stalled.send("behind its own close, which is against the rules")
            neighbour.send("still read")
            assert neighbour.wait(TEXT).text == "still read"
            closing.result()


def fill(made: Lab) -> None:
    """Send more than a stream that acknowledges nothing may take."""
    made.burst(64, 4096, text=False)


def test_a_connection_that_vanishes_ends_all_its_streams(lab: MakeLab) -> None:
    """Each of them ends with 1006."""
    made = lab()
    with Http2Connection(made.server.address) as connection:
        for path in ("/push", "/echo"):
            connection.connect(made.path(path))
        made.wait_for_connections(2)
    eventually(lambda: [event["code"] for event in made.events("ConnectionClosed")] == [1006, 1006])
