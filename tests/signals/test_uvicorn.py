"""How a uvicorn server's signal handler is known."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import uvicorn

from tests.signals.commands import Stop, commanded, drained, group, interrupted, terminated
from tests.support.server import VARIANTS
from wsstab.signals.uvicorn import handles

UVICORN = VARIANTS[0]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Never called."""


class Supervisor(uvicorn.Server):
    """A server class of a user, in a module of theirs."""


class Lookalike:
    """Somebody else's server with a handler of the same name."""

    should_exit = False

    def handle_exit(self, number: int, frame: object) -> None:
        """Stop in its own way."""


def test_the_handler_of_a_uvicorn_server_is_known() -> None:
    """The method that uvicorn installs with ``signal.signal``."""
    assert handles(uvicorn.Server(uvicorn.Config(app)).handle_exit)


def test_it_is_the_handler_that_uvicorn_really_installs() -> None:
    """While it captures signals, that is what the process has."""
    server, before = uvicorn.Server(uvicorn.Config(app)), signal.getsignal(signal.SIGTERM)
    with server.capture_signals():
        found = signal.getsignal(signal.SIGTERM)
    assert handles(found)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    "handler",
    [
        signal.SIG_DFL,
        signal.SIG_IGN,
        None,
        signal.default_int_handler,
        Lookalike().handle_exit,
        uvicorn.Server(uvicorn.Config(app)).shutdown,
        print,
    ],
)
def test_nobody_else_s_handler_is_taken_for_it(handler: object) -> None:
    """Neither Python's own, nor one of the same name, nor another method of the server."""
    assert not handles(handler)


def test_a_server_class_derived_from_uvicorn_s_is_known() -> None:
    """Users who run uvicorn from their own code derive from it."""
    assert handles(Supervisor(uvicorn.Config(app)).handle_exit)


SINGLE = "uvicorn {app} --fd {fd}"
WORKERS = "uvicorn {app} --fd {fd} --workers 2"
RELOAD = "uvicorn {app} --fd {fd} --reload"
GUNICORN = "gunicorn {app} -k uvicorn_worker.UvicornWorker -b fd://{fd} -w 2"
LINES = pytest.mark.parametrize(
    "line", [SINGLE, WORKERS, RELOAD, GUNICORN], ids=["single", "workers", "reload", "gunicorn"]
)


@LINES
@pytest.mark.parametrize("stop", [terminated, group, interrupted])
def test_all_clients_are_drained_however_it_is_started_and_told(line: str, stop: Stop) -> None:
    """A parent relays the signal, and a group has got it already."""
    with commanded(UVICORN, line) as (server, crowd):
        assert crowd.open("/echo", 24) == [101] * 24
        stop(server)
        server.wait()
        drained(crowd, UVICORN, 24)
        assert server.complaints() == []
        started, stopped = server.lifespans
        assert started == stopped
