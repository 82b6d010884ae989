"""Lifetimes of applications and servers: each of them ends only its own connections."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import MakeServer
from tests.support.peer import Denied, Peer, Vanished
from tests.support.server import ROOT, VARIANTS, Variant
from tests.support.waiting import eventually

WITH_LIFESPAN = [each for each in VARIANTS if each.server != "daphne" and each.loop != "trio"]
"""daphne has no lifespan, and on trio a failure in it ends the whole server."""


@pytest.mark.parametrize("variant", WITH_LIFESPAN, ids=str)
def test_a_lifespan_that_fails_later_closes_no_connection(serve: MakeServer, variant: Variant) -> None:
    """The server goes on serving, and so does the middleware; stopping the server still drains."""
    server = serve("tests.support.apps.lives:crashing", variant)
    with Peer(server.address, "/echo") as peer:
        eventually(lambda: "the job fails" in server.log)
        peer.send("still here?")
        assert peer.receive() == "still here?"
        with Peer(server.address, "/echo") as later:
            later.send("hello")
            assert later.receive() == "hello"
        server.stop()
        assert peer.receive_close().code == 1012
    assert "boom-job" in server.log


@pytest.fixture
def twice() -> Iterator[subprocess.Popen[str]]:
    """A process in which two uvicorn servers serve one application."""
    command = [sys.executable, "-m", "tests.support.apps.lives"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.kill()


def test_a_server_that_stops_ends_only_its_own_sockets(twice: subprocess.Popen[str]) -> None:
    """The other server goes on, accepts new connections, and ends its own when it stops."""
    assert twice.stdin is not None
    assert twice.stdout is not None
    first, second = (("127.0.0.1", int(port)) for port in twice.stdout.readline().split())
    with Peer(first, "/echo") as own, Peer(second, "/echo") as other:
        twice.stdin.write("\n")
        twice.stdin.flush()
        assert own.receive_close().code == 1012
        own.vanish()
        assert twice.stdout.readline() == "stopped\n"
        with pytest.raises((ConnectionError, Denied, Vanished)):
            Peer(first, "/echo")
        with Peer(second, "/echo") as later:
            for peer in (other, later):
                peer.send("hello")
                assert peer.receive() == "hello"
        twice.stdin.write("\n")
        twice.stdin.flush()
        assert other.receive_close().code == 1012
        other.vanish()
        assert twice.stdout.readline() == "stopped\n"
