"""The test harness itself, on a bare uvicorn: other tests can show only what it can see."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.crowd import Crowd
from tests.support.frames import CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, FrameParser, close_payload
from tests.support.peer import Denied, Peer, Vanished
from tests.support.proxy import Proxy
from tests.support.server import VARIANTS, Server
from tests.support.waiting import eventually

PLAIN = "tests.support.apps.plain:app"


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    """A server with no stabilizer and a keepalive of a third of a second."""
    with Server(PLAIN, VARIANTS[0], settings={"ws_ping_interval": 0.3, "ws_ping_timeout": 0.3}) as server:
        yield server


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 1048576])
def test_frames_of_every_length_come_back_as_they_were_sent(plain: Server, length: int) -> None:
    """Masking and all three length fields are right."""
    with Peer(plain.address, "/echo") as peer:
        for message in ("t" * length, b"b" * length):
            peer.send(message)
            assert peer.receive() == message


def test_frames_are_parsed_from_single_bytes() -> None:
    """However the stream is cut, the same frame comes out."""
    parser = FrameParser()
    frame = Frame(TEXT, b"x" * 300, False, 4)
    for byte in frame.encode(masked=False):
        assert parser.next(0.0) is None
        parser.feed(bytes([byte]))
    assert parser.next(0.0) == frame


def test_fragments_are_one_message(plain: Server) -> None:
    """A message in three frames is echoed as one."""
    with Peer(plain.address, "/echo") as peer:
        peer.send_fragments(TEXT, b"one", b"two", b"three")
        assert peer.receive() == "onetwothree"


def test_an_invalid_frame_is_sent_as_it_is(plain: Server) -> None:
    """Reserved bits reach the server, which calls them a protocol error."""
    with Peer(plain.address, "/echo") as peer:
        peer.send_frame(TEXT, b"odd", reserved=2)
        assert peer.receive_close().code == 1002


def test_a_refusal_is_reported_with_its_status(plain: Server) -> None:
    """An unknown path is refused with an HTTP answer, which is not an error of the socket."""
    with pytest.raises(Denied) as denied:
        Peer(plain.address, "/nowhere")
    assert denied.value.status == 403


def test_a_missing_close_frame_is_noticed(plain: Server) -> None:
    """A bare uvicorn ends a handler that returned with a FIN and no close frame."""
    with Peer(plain.address, "/returns") as peer:
        assert peer.ended() == "fin"
        assert peer.count(CLOSE) == 0


def test_the_closing_handshake_is_complete(plain: Server) -> None:
    """Code and reason are sent, the server answers with the code, and nothing follows."""
    with Peer(plain.address, "/echo") as peer:
        peer.close(4001, "bye")
        assert peer.receive_close().code == 4001
        assert peer.ended() in ("fin", "rst")
        assert peer.after_close() == []


def test_frames_behind_a_close_frame_are_shown() -> None:
    """``after_close`` would reveal a server that sends such a frame."""
    parser, peer = FrameParser(), object.__new__(Peer)
    parser.feed(b"".join(Frame(code, b"", True).encode(masked=False) for code in (TEXT, CLOSE, PONG)))
    peer.frames = [frame for frame in iter(lambda: parser.next(0.0), None) if frame is not None]
    assert [frame.opcode for frame in peer.after_close()] == [PONG]


def test_pings_are_answered_only_when_allowed(plain: Server) -> None:
    """A peer that answers stays connected; one that does not is closed by the server's keepalive."""
    with Peer(plain.address, "/echo") as alive, Peer(plain.address, "/echo", answer_pings=False) as dead:
        alive.read_until(lambda frames: sum(frame.opcode == PING for frame in frames) >= 4)
        assert dead.receive_close().reason == "keepalive ping timeout"


def test_a_peer_with_a_small_receive_buffer_reads_whole_messages(plain: Server) -> None:
    """The buffer of 4 KiB is full soon, and a message of 16 KiB still comes out whole."""
    with Peer(plain.address, "/flood", receive_buffer=4096) as peer:
        assert peer.receive() == b"x" * 16384
        peer.vanish("rst")


def test_a_peer_that_does_not_read_stops_the_sender(plain: Server) -> None:
    """The echoes fill all buffers on their way; then the server reads no more, and sends of the peer block."""
    with Peer(plain.address, "/echo", receive_buffer=4096) as peer:
        peer.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            send_much(peer)
        peer.vanish("rst")
    eventually(lambda: plain.get("/-/count") == 0)


def send_much(peer: Peer) -> None:
    """Send 64 MiB."""
    for _ in range(1024):
        peer.send("x" * 65536)


def test_the_proxy_forwards_swallows_and_cuts(plain: Server) -> None:
    """While it swallows, the connection is half-open: nothing arrives, and its end is not reported."""
    with Proxy(plain.address) as proxy, Peer(proxy.address, "/echo") as peer:
        peer.send("through")
        assert peer.receive() == "through"
        proxy.swallow()
        peer.send("lost")
        with pytest.raises(TimeoutError):
            peer.receive(within=0.5)
        proxy.cut()
        assert peer.ended() == "rst"


def test_the_proxy_delays(plain: Server) -> None:
    """A round trip takes twice the delay."""
    with Proxy(plain.address, delay=0.1) as proxy, Peer(proxy.address, "/echo") as peer:
        began = time.monotonic()
        peer.send("slow")
        peer.receive()
        assert time.monotonic() - began >= 0.2


def test_a_crowd_counts_what_it_gets(plain: Server) -> None:
    """It reports the messages and bytes of each client, and the code of its close."""
    with Crowd(plain.address) as crowd:
        assert crowd.open("/echo", 20, stalled=2) == [101] * 20
        crowd.send("0123456789" * 3000, times=3)
        eventually(lambda: [client["bytes"] for client in crowd.report()] == [0] * 2 + [90000] * 18)
        assert {client["messages"] for client in crowd.report()[2:]} == {3}
        crowd.leave("close")
        eventually(lambda: {client["code"] for client in crowd.report()[2:]} == {1000})
        assert crowd.open("/nowhere", 2) == [403, 403]


def test_a_stopped_crowd_is_silent(plain: Server) -> None:
    """After SIGSTOP it answers no pings, and after SIGCONT it reports what happened meanwhile."""
    with Crowd(plain.address) as crowd:
        crowd.open("/echo", 2)
        eventually(lambda: crowd.report()[0]["pings"] >= 1)
        assert plain.get("/-/count") == 2
        crowd.process.send_signal(signal.SIGSTOP)
        eventually(lambda: plain.get("/-/count") == 0)
        crowd.process.send_signal(signal.SIGCONT)
        eventually(lambda: [client["code"] for client in crowd.report()] == [1011, 1011])


def test_complaints_of_a_server_are_seen() -> None:
    """A failed task whose exception nobody retrieved is found in the log, and can be forgiven."""
    with Server(PLAIN, VARIANTS[0]) as server:
        with Peer(server.address, "/complain") as peer:
            peer.ended()
        eventually(server.complaints)
        assert server.complaints(forgiven=["never retrieved", "Traceback"]) == []


def test_nothing_is_left_of_a_stopped_server() -> None:
    """Its process is gone, its port refuses connections, and its log is kept in memory only."""
    server = Server(PLAIN, VARIANTS[0])
    assert server.rss > 10_000_000
    assert server.stop() == -signal.SIGTERM
    assert "Uvicorn" in server.log or "Finished server process" in server.log
    assert not os.path.exists(server.log_file)
    with pytest.raises(ConnectionRefusedError):
        Peer(server.address, "/echo")


def test_a_server_that_fails_to_start_says_why() -> None:
    """The error contains the output of the server."""
    with pytest.raises(AssertionError, match="Could not import module"):
        Server("tests.support.apps.missing:app", VARIANTS[0])


def test_a_tls_server_is_reached(certificate: tuple[str, str, object]) -> None:
    """Client and HTTP requests trust the test's own authority."""
    with Server(PLAIN, VARIANTS[0], tls=certificate) as server, Peer(server.address, "/echo", tls=server.tls) as peer:  # type: ignore[arg-type]
        peer.send("secret")
        assert peer.receive() == "secret"
        assert server.get("/-/health") == "up"


def test_the_end_of_a_connection_interrupts_reading(plain: Server) -> None:
    """A reader that waits for a message raises on a close frame instead of timing out."""
    with Peer(plain.address, "/echo") as peer:
        peer.send_frame(CONTINUATION, b"no beginning")
        with pytest.raises(Vanished, match="close 1002"):
            peer.receive()
        peer.send_frame(CLOSE, close_payload(None))
