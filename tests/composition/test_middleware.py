"""Every composition is asked every question, bare and wrapped: wrapped is at least as good."""

from __future__ import annotations

import http.client
from contextlib import suppress

import pytest

from tests.composition.case import BARE, CASES, WRAPPED, Case, on_servers, trouble
from tests.composition.rows import NATIVE
from tests.support.frames import PING
from tests.support.waiting import eventually

pytestmark = on_servers(CASES[""])

HEADERS = {"X-Request-ID": "0" * 32, "X-Correlation-ID": "1" * 32, "Forwarded": "for=192.0.2.1"}
"""The headers of a request that the packages read."""

TRIES = 5
"""Additional tries where the outcome is a matter of chance."""
OF_THE_HANDSHAKE = {"date", "server", "sec-websocket-accept", "sec-websocket-extensions", "connection", "upgrade"}
"""Headers that the server itself decides about."""


def test_http_passes_as_without_us(case: Case) -> None:
    """Status, body and the names of the headers are the same, with those of the packages around it."""

    def ask(kind: str) -> tuple[int, str, set[str]]:
        connection = http.client.HTTPConnection(*case.server.address, timeout=10)
        connection.request(
            "GET",
            case.path(kind, "/hello"),
            headers={"X-Request-ID": "0" * 32, "X-Correlation-ID": "1" * 32, "Forwarded": "for=192.0.2.1"},
        )
        answer = connection.getresponse()
        body = answer.read().decode().replace(f"/{kind}/", "/")
        connection.close()
        return answer.status, body, {name.lower() for name, _ in answer.getheaders()}

    bare, wrapped = case.both(ask)
    assert wrapped == bare
    assert wrapped[0] == 200


def test_the_wire_is_the_expected_one(case: Case) -> None:
    """It is the server's own, or plain ASGI where something outside may change messages."""
    case.connect(WRAPPED, "/echo")
    [module] = eventually(lambda: case.look(WRAPPED)["wires"])
    assert (module != "wsstab.wires.asgi") == (case.row.wire(case.place) == NATIVE), module


def test_pings_arrive_where_the_wire_has_them(case: Case) -> None:
    """Where the wire has no pings the log says so once, and names the cause and the remedy."""
    peer = case.connect(WRAPPED, "/echo")
    if case.row.wire(case.place) == NATIVE and case.variant.traits.native_ping:
        peer.read_until(lambda frames: any(frame.opcode == PING for frame in frames))
        return
    told = [line for line in case.server.log.splitlines() if "WARNING" in line and "heartbeat" in line]
    if case.row.wire(case.place) == NATIVE:
        assert any("heartbeat_type" in line for line in told)
    else:
        blamed = f"! {case.row.hidden_by} wraps the send() of {case.variant.server} "
        own = [line for line in told if blamed in line]
        # There is one line for each manager that was asked, and one manager at each place.
        assert 1 <= len(own) <= len(case.row.plain)
        assert all("app = WebSocketStabilizer(app)" in line for line in own)


def test_messages_come_back(case: Case) -> None:
    """Text and binary, small and large, in their order."""
    messages: list[str | bytes] = ["for ", "é", b"\x00\xff", "x" * 100_000, b"y" * 100_000, *map(str, range(50))]

    def ask(kind: str) -> list[str | bytes]:
        peer = case.connect(kind, "/echo")
        for message in messages:
            peer.send(message)
        return peer.receive_many(len(messages))

    bare, wrapped = case.both(ask)
    assert wrapped == bare
    assert [str(message).rstrip("an") for message in wrapped] == [str(message) for message in messages]


def test_a_broadcast_arrives(case: Case) -> None:
    """Every peer gets it once."""

    def ask(kind: str) -> list[list[str | bytes]]:
        peers = [case.connect(kind, "/room") for _ in range(3)]
        path = case.path(kind, "/shout?text=")
        eventually(lambda: case.server.post(path + "first") == 3)
        case.server.post(path + "second")
        for peer in peers:
            peer.read_until(lambda frames: any(frame.payload == b"second" for frame in frames))
        return [[frame.payload for frame in peer.frames if frame.payload == b"second"] for peer in peers]

    bare, wrapped = case.both(ask)
    assert wrapped == bare == [[b"second"]] * 3


def test_headers_at_accept_arrive(case: Case) -> None:
    """Both the headers of the handler and those of the packages around it arrive."""

    def ask(kind: str) -> set[str]:
        answer = case.connect(kind, "/echo").answer
        return {name.lower() for name, _ in answer.headers} - OF_THE_HANDSHAKE

    bare, wrapped = case.both(ask)
    assert wrapped >= bare


@pytest.mark.parametrize(("path", "code"), [("/returns", 1000), ("/closes", 4001)])
def test_a_return_and_a_close_have_their_codes(case: Case, path: str, code: int) -> None:
    """The log reports no trouble."""
    log = case.log_of(lambda: case.ends(path, ("close", code)))
    assert trouble(log) == 0


def test_an_error_of_a_handler_closes_with_1011(case: Case) -> None:
    """The error is in the log as often as it is without us."""
    bare, wrapped = case.failing("/raises")
    assert wrapped.ending == (bare.ending if "/raises" in case.row.as_bare else ("close", 1011))
    assert wrapped.printed == bare.printed


def test_a_refusal_is_the_same(case: Case) -> None:
    """The handler closes before it accepts."""
    bare, wrapped = case.both(lambda kind: case.ending(kind, "/refuses"))
    assert wrapped == bare


def test_an_error_before_accept_is_answered_and_logged(case: Case) -> None:
    """The answer is that of the bare program or 500, and the error is in the log as often as without us."""
    bare, wrapped = case.failing("/raises-early")
    assert wrapped.ending in (bare.ending, ("status", 500))
    assert wrapped.printed == bare.printed


@pytest.mark.parametrize("how", ["close", "fin", "rst"])
def test_a_peer_that_leaves_ends_its_handler_in_silence(case: Case, how: str) -> None:
    """The handler learns of it, and the log has no more trouble than without us."""

    def ask(kind: str) -> tuple[str, str]:
        notes: list[list[str]] = []

        def leave() -> None:
            peer, before = case.connect(kind, "/echo"), len(case.look(kind)["notes"])
            peer.send("here")
            peer.receive()
            if how == "close":
                peer.close(1001)
            peer.vanish(how.replace("close", "fin"))
            notes.extend(case.notes(kind, before))

        log = case.log_of(leave)
        return notes[0][1], log

    bare, wrapped = case.both(ask)
    assert wrapped[0] == bare[0]
    assert trouble(wrapped[1]) <= trouble(bare[1]), wrapped[1]


def test_an_error_after_the_peer_left_is_in_the_log(case: Case) -> None:
    """What a handler's clean-up raises is an error of the application, even though its peer has gone."""
    bare, wrapped = case.failing("/raises-late", leave=True)
    assert wrapped.printed == bare.printed


def learns(case: Case, kind: str, path: str, within: float) -> tuple[bool, str]:
    """Whether a handler notes its end when its peer vanishes after two messages, and what is in the log."""
    ended = False

    def leave() -> None:
        nonlocal ended
        peer, before = case.connect(kind, path), len(case.look(kind)["notes"])
        peer.send("question")
        peer.send("and another")
        peer.vanish("rst")
        with suppress(AssertionError):
            ended = bool(case.notes(kind, before, within))

    log = case.log_of(leave)
    return ended, log


def test_a_handler_that_answers_too_late_learns_of_its_end(case: Case) -> None:
    """It does so wherever it does without us, and the log has no more trouble."""
    end_as_without_us(case, "/echo")


def test_a_handler_that_only_sends_learns_of_its_end(case: Case) -> None:
    """The same holds for a handler that never receives."""
    end_as_without_us(case, "/pushes")


def end_as_without_us(case: Case, path: str) -> None:
    """Check that a handler learns of its end if it does so without us."""
    bare = learns(case, BARE, path, 1.5)
    wrapped = learns(case, WRAPPED, path, 4.0 if bare[0] else 0.5)
    # On uvicorn, even bare, it is chance whether the answer or the disconnect comes first: one try proves nothing.
    for _ in range(TRIES if case.variant.uvicorn else 0):
        if wrapped[0] >= bare[0]:
            break
        wrapped = learns(case, WRAPPED, path, 4.0)
    assert wrapped[0] >= bare[0]
    # On uvicorn, even bare, it is also chance whether an answer fails or the disconnect ends the handler before.
    by_chance = case.row.logs_departures and (case.variant.uvicorn or path == "/echo")
    assert trouble(wrapped[1]) <= max(trouble(bare[1]), by_chance), wrapped[1]
