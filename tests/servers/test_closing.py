"""Every ending has its close frame, and no frame follows it."""

from __future__ import annotations

import re

import pytest

from tests.conftest import MakeLab
from tests.support.frames import Frame
from tests.support.lab import Lab
from tests.support.peer import Denied, Peer
from tests.support.server import VARIANTS, Variant
from tests.support.waiting import eventually


def close_of(peer: Peer) -> tuple[int, str]:
    """Code and reason with which the server closed; nothing may follow, and TCP ends soon."""
    frame: Frame = peer.receive_close()
    peer.ended()
    assert peer.after_close() == []
    return frame.code, frame.reason


def denial_of(lab: Lab, path: str) -> Denied:
    """How the handshake was refused."""
    with pytest.raises(Denied) as denied:
        lab.connect(path)
    return denied.value


def test_a_handler_that_returns_closes_with_1000(lab: MakeLab) -> None:
    """Uvicorn by itself would end the connection without a close frame."""
    made = lab()
    assert close_of(made.connect("/returns")) == (1000, "")
    event = made.event("ConnectionClosed")
    assert (event["code"], event["cause"]) == (1000, "application")


def test_messages_sent_before_the_close_arrive_before_it(lab: MakeLab) -> None:
    """A handler may return right after a large send."""
    peer = lab().connect("/returns-late")
    assert peer.receive() == b"x" * 1_000_000
    assert close_of(peer) == (1000, "")


def test_a_handler_that_raises_closes_with_1011(lab: MakeLab) -> None:
    """The peer learns that the fault is the server's; the log has the exception."""
    made = lab()
    made.forgive("Failure")
    assert close_of(made.connect("/raises")) == (1011, "internal error")
    eventually(lambda: "Failure" in made.log)


def test_a_handler_that_raises_before_accept_answers_500(lab: MakeLab) -> None:
    """The server logs the exception."""
    made = lab()
    made.forgive("Failure")
    assert denial_of(made, "/raises-early").status == 500
    eventually(lambda: "Failure" in made.log)


def test_a_handler_that_returns_before_accept_refuses_the_handshake(lab: MakeLab) -> None:
    """The peer is answered and not left waiting."""
    assert denial_of(lab(), "/returns-early").status in (403, 500)


def test_an_unknown_path_is_refused(lab: MakeLab) -> None:
    """Starlette closes before accept, which is 403 in HTTP."""
    made = lab()
    assert denial_of(made, "/nowhere").status == 403
    assert made.statistics["opened"] == 0


def test_a_websocket_exception_keeps_its_code(lab: MakeLab) -> None:
    """FastAPI's own way to close from a handler is not overridden."""
    assert close_of(lab().connect("/raises-policy")) == (4321, "house rules")


def test_a_websocket_exception_before_accept_refuses_the_handshake(lab: MakeLab) -> None:
    """A close before accept is 403 in HTTP."""
    assert denial_of(lab(), "/raises-policy-early").status == 403


def test_a_close_before_accept_refuses_the_handshake(lab: MakeLab) -> None:
    """A close before accept is 403 in HTTP."""
    assert denial_of(lab(), "/closes-early").status == 403


def test_a_denial_of_the_handler_passes_unchanged(lab: MakeLab) -> None:
    """Status, headers and body are the handler's."""
    answer = denial_of(lab(), "/denies").answer
    assert (answer.status, answer.header("x-lab"), answer.body) == (402, "denied", b"not today")


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "going"), (3000, "app"), (4001, "because"), (4999, "")]
)
def test_a_close_of_the_handler_passes_unchanged(lab: MakeLab, code: int, reason: str) -> None:
    """Code and reason arrive, and closing again does nothing."""
    made = lab()
    assert close_of(made.connect(f"/closes?code={code}&reason={reason}")) == (code, reason)
    assert made.note() == "closed twice"


@pytest.mark.parametrize(
    ("code", "sent"), [(0, 1000), (1005, 1000), (1006, 1011), (1015, 1011), (2000, 1011), (5000, 1011)]
)
def test_a_code_that_may_not_be_sent_is_replaced(lab: MakeLab, code: int, sent: int) -> None:
    """With some of these codes a server drops the connection; others are sent and break the peer."""
    assert close_of(lab().connect(f"/closes?code={code}"))[0] == sent


def test_a_reason_that_is_too_long_is_cut(lab: MakeLab) -> None:
    """A close frame has room for 123 bytes of reason; the cut falls between two characters."""
    assert close_of(lab().connect(f"/closes?code=1000&reason={'%C3%A9' * 100}")) == (1000, "é" * 61)


@pytest.mark.parametrize(
    ("which", "close"), [("limit", (1013, "connection limit reached")), ("token", (1008, "not authorized"))]
)
def test_an_escaped_error_of_the_package_closes_with_its_own_code(
    lab: MakeLab, which: str, close: tuple[int, str]
) -> None:
    """The error itself says how to close; one warning reports it, and there is no traceback."""
    made = lab()
    assert close_of(made.connect(f"/raises-ours?which={which}")) == close
    eventually(lambda: made.log.count("! an error escaped the handler of /raises-ours") == 1)


@pytest.mark.parametrize(("code", "reason", "seen"), [(1000, "", 1000), (4001, "bye", 4001), (3999, "é", 3999)])
@pytest.mark.parametrize("path", ["/echo", "/escape"])
def test_the_handler_sees_code_and_reason_of_the_peer(
    lab: MakeLab, path: str, code: int, reason: str, seen: int
) -> None:
    """The peer gets its code back, and a disconnect that escapes the handler ends quietly."""
    made = lab()
    peer = made.connect(path)
    peer.close(code, reason)
    assert close_of(peer)[0] == code
    assert made.note() == {"code": seen, "reason": reason}
    event = made.event("ConnectionClosed")
    assert (event["code"], event["reason"], event["cause"]) == (seen, reason, "client")


def test_a_peer_may_close_without_a_code(lab: MakeLab) -> None:
    """The handler then sees 1005 (RFC 6455 section 7.1.5)."""
    made = lab()
    peer = made.connect("/echo")
    peer.close(None)
    assert close_of(peer)[0] in (1000, 1005)
    assert made.note()["code"] == 1005


def test_iterating_ends_when_the_peer_closes(lab: MakeLab) -> None:
    """The handler continues after its ``async for`` loop."""
    made = lab()
    made.connect("/iterate").close(1000)
    assert made.note() == "iteration ended"


def test_a_close_from_outside_ends_the_handler(lab: MakeLab) -> None:
    """``manager.disconnect`` closes with the code it is given, and the handler hears of it."""
    made = lab()
    peer = made.connect("/echo")
    assert made.call("disconnect", made.connections[0]["client_id"], 4007, "enough") is None
    assert close_of(peer) == (4007, "enough")
    assert made.note()["code"] == 4007


@pytest.mark.parametrize("variant", VARIANTS[1::4], indirect=True, ids=str)
def test_a_peer_that_ignores_a_close_is_cut_off(lab: MakeLab) -> None:
    """No connection waits for ever for an answer to its close frame. It waits ten seconds, so two variants must do."""
    made = lab()
    peer = made.connect("/returns")
    peer.receive_close(reply=False)
    peer.ended(within=12)
    made.wait_for_connections(0)


def test_a_protocol_error_ends_the_connection(lab: MakeLab, variant: Variant) -> None:
    """A reserved bit that was not negotiated is an error, and the handler learns of the end.

    wsproto sends no close frame for it, and granian sends one without a code.
    """
    made = lab()
    peer = made.connect("/echo")
    peer.send_frame(1, b"odd", reserved=2)
    peer.ended()
    codes = {"wsproto": [], "granian": [1005]}.get(variant.implementation or variant.server, [1002])
    assert [frame.code for frame in peer.frames] == codes
    assert made.note()["code"] in (1002, 1005, 1006)


BAD_TEXT = Frame(1, b"\xff").encode()


def test_an_invalid_frame_followed_by_a_reset_logs_no_error(lab: MakeLab, variant: Variant) -> None:
    """The answer meets a transport that is already gone, which is not worth a log entry."""
    made = lab()
    if variant.sansio:
        # uvicorn logs text that is not UTF-8, with a traceback.
        made.forgive("UnicodeDecodeError")
    for bad in (BAD_TEXT, Frame(1, b"odd", reserved=2).encode()) * 10:
        peer = made.connect("/echo")
        # The answer to the ping finds that the peer is gone.
        peer.send_raw(Frame(9, b"?").encode() + bad)
        peer.vanish("rst")
    eventually(lambda: made.statistics["connections"] == 0)


@pytest.mark.parametrize("variant", [each for each in VARIANTS if each.sansio], indirect=True, ids=str)
@pytest.mark.parametrize(
    "after",
    [BAD_TEXT, Frame(1, b"odd", reserved=2).encode(), Frame(1, b"late").encode(), Frame(9, b"?").encode()],
    ids=["a second one", "a protocol error", "a message", "a ping"],
)
def test_data_after_an_error_in_the_same_segment_is_ignored(lab: MakeLab, after: bytes) -> None:
    """Only one of two errors is reported, and no message after an error is answered (RFC 6455 section 7.1.7)."""
    made = lab()
    # uvicorn logs text that is not UTF-8, with a traceback.
    made.forgive("UnicodeDecodeError")
    peer = made.connect("/echo")
    peer.send_raw(Frame(1, b"one").encode() + BAD_TEXT + after)
    peer.send_frame(9, b"?")
    assert close_of(peer)[0] in (1002, 1007)
    assert [frame.payload for frame in peer.frames if frame.opcode in (1, 2)] == [b"one"]
    assert made.note()["code"] in (1002, 1007)
    assert "Fatal error" not in made.log
    assert made.statistics["messages_received"] == 1


@pytest.mark.parametrize("variant", [each for each in VARIANTS if each.sansio], indirect=True, ids=str)
def test_messages_before_a_protocol_error_are_answered(lab: MakeLab) -> None:
    """They may share a segment with the error or not; the server by itself forgets those that do."""
    made = lab()
    for apart in (False, True):
        peer = made.connect("/echo")
        data = [Frame(1, b"one").encode() + Frame(9, b"?").encode() + Frame(2, b"two").encode()]
        data.append(Frame(1, b"odd", reserved=2).encode())
        for piece in data if apart else [b"".join(data)]:
            peer.send_raw(piece)
        assert close_of(peer)[0] == 1002
        assert [frame.payload for frame in peer.frames if frame.opcode in (1, 2)] == [b"one", b"two"]
        assert [frame.payload for frame in peer.frames if frame.opcode == 10] == [b"?"]


@pytest.mark.parametrize("variant", [each for each in VARIANTS if each.sansio], indirect=True, ids=str)
def test_a_push_only_connection_keeps_the_code_of_its_protocol_error(lab: MakeLab) -> None:
    """Broadcasts before its handler has read the end are not queued and do not make it a slow peer."""
    made = lab()
    peer = made.connect("/push")
    peer.send_frame(1, b"odd", reserved=2)
    assert peer.receive_close(reply=False).code == 1002
    made.burst(2000, 1000)
    assert made.event("ConnectionClosed")["code"] == 1002
    assert made.statistics["dropped_outbound"] == 0


def test_the_log_says_whose_connection_ended_and_how(lab: MakeLab) -> None:
    """The message itself says it, on one line whatever the path and the client id contain."""
    made = lab()
    peer = made.connect("/name/ann%0A%27%20b")
    assert peer.receive() == "named"
    peer.send("hello")
    assert peer.receive() == "hello"
    peer.close(4001, "secret")
    eventually(lambda: "= closed" in made.log)
    who = r"""/name/ann%0A%27%20b "ann\\n' b" 127\.0\.0\.1"""
    ended = r"after \d+\.\d s: 4001 by the client, 1 in, 2 out"
    assert len(re.findall(rf"= closed {who} {ended}$", made.log, re.MULTILINE)) == 1
    assert len(re.findall(r"= opened /name/ann%0A%27%20b 'c\w+-\w+' 127\.0\.0\.1$", made.log, re.MULTILINE)) == 1
