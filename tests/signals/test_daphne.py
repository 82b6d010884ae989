"""How the handlers of daphne's reactor are recognised, and how daphne drains when they were taken over."""

from __future__ import annotations

import signal
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.signals.commands import Stop, asked_again, commanded, drained, interrupted, terminated
from tests.support.server import DAPHNE
from tests.support.waiting import eventually
from wsstab.signals.base import SignalOwner
from wsstab.signals.daphne import handles, take

LINE = "daphne --fd {fd} {app}"


class Reactor:
    """Has a method with the name of Twisted's handler."""

    def sigTerm(self, number: int, frame: object) -> None:
        """Stop."""

    def stop(self) -> None:
        """Stop, but not by a signal."""


class TwistedReactor(Reactor):
    """Also claims to be from Twisted's module."""

    __module__ = "twisted.internet.asyncioreactor"


def test_the_handlers_of_a_twisted_reactor_are_recognised() -> None:
    """Both the name and the class must match."""
    assert handles(TwistedReactor().sigTerm)
    strangers: list[Any] = [Reactor().sigTerm, TwistedReactor().stop, signal.SIG_DFL, None, print]
    assert [handles(stranger) for stranger in strangers] == [False] * 5


def test_a_reactor_that_does_not_serve_daphne_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application may run Twisted for something else."""
    handler, owner = TwistedReactor().sigTerm, SignalOwner()
    before = signal.signal(signal.SIGTERM, handler)
    try:
        monkeypatch.delitem(sys.modules, "daphne.server", raising=False)
        assert take(owner, None) == []
        monkeypatch.setitem(sys.modules, "daphne.server", ModuleType("daphne.server"))
        (chain,) = take(owner, None)
        assert signal.getsignal(signal.SIGTERM) == owner.on_signal
        chain.give_back()
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("stop", [terminated, interrupted])
def test_all_clients_are_drained_whichever_signal_stops_daphne(stop: Stop) -> None:
    """daphne has no lifespan, so signals are the only notice of its stop."""
    with commanded(DAPHNE[0], LINE, 0) as (server, crowd):
        assert crowd.open("/echo", 24) == [101] * 24
        stop(server)
        assert server.wait() == 0
        drained(server, crowd)
        assert server.complaints() == []


def test_a_second_signal_ends_the_drain_at_once() -> None:
    """The signal is that of a second Ctrl+C."""
    with commanded(DAPHNE[0], LINE, 0, timeout=60.0) as (server, crowd):
        crowd.open("/deaf", 4)
        interrupted(server)
        eventually(lambda: {client["code"] for client in crowd.report()} == {DAPHNE[0].drained[0]})
        asked_again(server)
        assert server.wait() == 0
        assert server.log.count('NOTE "cancelled"') == 4
