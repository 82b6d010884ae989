"""Errors keep their meaning, and affect only the connection that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias

import pytest

from tests.conftest import MakeServer
from tests.support.peer import Peer
from tests.support.server import Server, Variant
from tests.support.waiting import eventually

Connect: TypeAlias = Callable[[Server, str], Peer]

APP = "tests.support.apps.errors:app"
RAISED = (1011, 4011)
"""1011 as it may arrive: behind another middleware, daphne sends no code between 1000 and 3000."""
OUTSIDE = ["runtime", "lookup", "refused", "timeout", "upstream"]
AT_THE_END = ["file", "refused", "pipe", "timeout"]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects peers, and closes them at the end of the test."""
    with ExitStack() as stack:
        yield lambda server, path: stack.enter_context(Peer(server.address, path))


def logged(server: Server, word: str, since: int) -> bool:
    """Whether the server has logged it, with a traceback."""
    return word in server.log[since:] and "Traceback" in server.log[since:]


def test_an_error_of_an_outer_middleware_is_an_error_of_the_application(
    serve: MakeServer, variant: Variant, connect: Connect
) -> None:
    """Whatever its class, it closes with 1011, logs a traceback, and is not taken for a peer that left."""
    server = serve(APP, variant)
    for kind in OUTSIDE:
        peer = connect(server, f"/outside/{kind}")
        since = len(server.log)
        peer.send("hello")
        assert peer.receive() == "hello"
        peer.send("fail")
        assert peer.receive_close().code in RAISED
        # The deprecated implementation of uvicorn waits for the peer to leave, and the handler with it.
        peer.vanish()
        # Starlette turns an OSError into a disconnect, and some servers log only that.
        eventually(lambda since=since: "Traceback" in server.log[since:])  # type: ignore[misc]


def test_an_outer_middleware_error_on_a_broadcast_ends_only_its_receiver(
    serve: MakeServer, variant: Variant, connect: Connect
) -> None:
    """No handler awaits the send of a broadcast, so the error is logged and closes the receiver with 1011."""
    server = serve(APP, variant)
    peer, healthy = connect(server, "/broadcast/outside/runtime"), connect(server, "/chat/healthy")
    peer.send("hello")
    assert peer.receive() == healthy.receive() == "hello"
    peer.send("fail")
    assert peer.receive_close().code in RAISED
    assert healthy.receive() == "fail"
    eventually(lambda: logged(server, "boom-runtime", 0))


def test_an_error_while_cleaning_up_is_logged_with_its_traceback(
    serve: MakeServer, variant: Variant, connect: Connect
) -> None:
    """A missing file or a database that refuses is an error of its own, even though the peer has left."""
    server = serve(APP, variant)
    for kind in AT_THE_END:
        since = len(server.log)
        peer = connect(server, f"/end/{kind}")
        peer.send("hello")
        peer.receive()
        peer.vanish()
        eventually(lambda kind=kind, since=since: logged(server, f"boom-{kind}", since))  # type: ignore[misc]


def test_a_reader_and_a_writer_in_a_task_group_end_quietly(
    serve: MakeServer, variant: Variant, connect: Connect
) -> None:
    """An exception group of disconnects is a disconnect; one with another error in it is logged whole."""
    server = serve(APP, variant)
    for how in ("fin", "rst"):
        peer = connect(server, "/group/plain")
        peer.receive()
        peer.vanish(how)
    peer = connect(server, "/group/plain")
    peer.close()
    peer.ended()
    eventually(lambda: server.log.count("= closed /group/plain") == 3)
    peer = connect(server, "/group/mixed")
    peer.receive()
    assert "Traceback" not in server.log
    peer.vanish()
    eventually(lambda: "Traceback" in server.log)


def test_a_chat_member_survives_sending_to_a_peer_that_has_left(
    serve: MakeServer, variant: Variant, connect: Connect
) -> None:
    """The error would be raised in a handler that has done nothing wrong."""
    server = serve(APP, variant)
    healthy = connect(server, "/chat/healthy")
    ghost = connect(server, "/chat/ghost")
    healthy.send("hello")
    assert healthy.receive() == ghost.receive() == "healthy: hello"
    ghost.vanish("rst")
    for number in range(20):
        healthy.send(str(number))
    assert healthy.receive_many(20) == [f"healthy: {number}" for number in range(20)]
    healthy.close()
    assert healthy.receive_close().code == 1000
    assert "Traceback" not in server.log


def test_a_relay_on_bare_asgi_survives_sending_to_a_peer_that_has_left(
    serve: MakeServer, variant: Variant, connect: Connect
) -> None:
    """No framework stands between, so nothing else could catch the error."""
    server = serve(APP, variant)
    healthy, leaving = connect(server, "/relay"), connect(server, "/relay")
    healthy.send("hello")
    assert healthy.receive() == leaving.receive() == "hello"
    leaving.vanish("rst")
    for number in range(20):
        healthy.send(str(number))
    assert healthy.receive_many(20) == [str(number) for number in range(20)]
    assert "Traceback" not in server.log


def test_a_handler_that_answers_too_late_gets_its_disconnect(
    serve: MakeServer, variant: Variant, connect: Connect
) -> None:
    """It comes from send where ASGI promises an error there, and from receive elsewhere: frameworks clean up on it."""
    server = serve(APP, variant)
    peer = connect(server, "/late")
    peer.send("question")
    peer.vanish()
    eventually(lambda: "disconnected by" in server.log)
    assert f"disconnected by {'send' if variant.uvicorn else 'receive'}" in server.log


def test_a_handler_that_never_receives_again_still_ends(serve: MakeServer, variant: Variant, connect: Connect) -> None:
    """The connection waits only a few seconds for its disconnect to be received."""
    server = serve(APP, variant, {"drain": {"timeout": 20.0}})
    peer = connect(server, "/never")
    peer.send("begin")
    peer.receive()
    peer.vanish("rst")
    eventually(lambda: "= closed /never" in server.log)
    # The drain would wait for a handler that goes on until its timeout.
    server.stop(within=10)
    assert "ignored the drain" not in server.log


def test_an_error_of_the_package_that_escapes_a_handler_is_logged(
    serve: MakeServer, variant: Variant, connect: Connect
) -> None:
    """A mistyped client id closes with 1011, and one warning has the traceback."""
    server = serve(APP, variant)
    peer = connect(server, "/mistyped")
    assert peer.receive_close().code in RAISED
    eventually(lambda: logged(server, "ConnectionNotFoundError", 0))
    assert server.log.count("! an error escaped the handler of /mistyped") == 1


def test_a_message_over_the_limit_is_logged_once_for_each_path(
    serve: MakeServer, variant: Variant, connect: Connect
) -> None:
    """The warning names the option. It is not repeated, since a page may reconnect and send the message for ever."""
    server = serve(APP, variant, {"max_message_size": 1000})
    reasons = set()
    for path in ("/chat/a", "/chat/a", "/chat/b"):
        peer = connect(server, path)
        peer.send("x" * 1001)
        close = peer.receive_close()
        assert close.code == 1009
        reasons.add(close.payload[2:].decode())
    eventually(lambda: server.log.count("is over max_message_size=1000") == 2)
    if variant.implementation not in ("wsproto", "websockets"):
        assert reasons == {"message too big"}
