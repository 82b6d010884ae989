"""Signals in the table of an event loop: found, taken over, given back, passed on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import uvloop

from wsstab.signals.base import SignalOwner
from wsstab.signals.loop import LoopSignals, table_of, take_from_loop

TERM, INT = signal.SIGTERM, signal.SIGINT
NUMBERS = (TERM, INT)


class Owner(SignalOwner):
    """Records the signals that it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[int] = []

    def on_signal(self, number: int, frame: object = None) -> None:
        """Note it."""
        self.heard.append(number)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop; the process gets its handlers back after the test."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    made: asyncio.AbstractEventLoop = request.param()
    yield made
    made.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def server_handler(heard: list[Any]) -> Callable[..., None]:
    """A handler that counts as the server's, since it is a function of this module."""

    def handler(*arguments: Any) -> None:
        heard.append(arguments)

    return handler


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    with anyio.fail_after(5):
        while not condition():
            await asyncio.sleep(0.01)


def taken(owner: Owner, heard: list[Any], module: str = __name__) -> list[LoopSignals]:
    """Install the handlers of a server, and take them over."""
    running = asyncio.get_running_loop()
    for number in NUMBERS:
        running.add_signal_handler(number, server_handler(heard), number, "server's")
    return take_from_loop(owner, module, NUMBERS)


def test_the_server_is_told_of_a_signal_only_when_it_may_stop(loop: asyncio.AbstractEventLoop) -> None:
    """Its handler would close every socket at once."""

    async def main() -> None:
        owner, heard = Owner(), list[Any]()
        (takeover,) = taken(owner, heard)
        signal.raise_signal(TERM)
        await until(lambda: owner.heard == [TERM])
        assert (heard, takeover.stands()) == ([], True)
        takeover.let_stop(TERM)
        await until(lambda: heard == [(TERM, "server's")])
        assert (owner.heard, takeover.stands()) == ([TERM], False)

    loop.run_until_complete(main())


def test_signals_that_were_given_back_reach_the_server_again(loop: asyncio.AbstractEventLoop) -> None:
    """Both are given back, and the server is not told of one that was not sent."""

    async def main() -> None:
        owner, heard = Owner(), list[Any]()
        (takeover,) = taken(owner, heard)
        takeover.give_back()
        takeover.let_stop(None)
        signal.raise_signal(INT)
        await until(lambda: heard == [(INT, "server's")])
        assert owner.heard == []

    loop.run_until_complete(main())


def test_a_handler_that_has_replaced_ours_is_kept(loop: asyncio.AbstractEventLoop) -> None:
    """Giving back does not overwrite it."""

    async def main() -> None:
        owner, heard, theirs = Owner(), list[Any](), list[str]()
        (takeover,) = taken(owner, heard)
        asyncio.get_running_loop().add_signal_handler(TERM, theirs.append, "theirs")
        assert not takeover.stands()
        takeover.give_back()
        signal.raise_signal(TERM)
        await until(lambda: theirs == ["theirs"])
        assert (owner.heard, heard) == ([], [])

    loop.run_until_complete(main())


def test_handlers_of_others_are_left_alone(loop: asyncio.AbstractEventLoop) -> None:
    """Only functions of the server's module count as its handlers."""

    async def main() -> None:
        owner, heard = Owner(), list[Any]()
        assert taken(owner, heard, "granian._signals") == []
        signal.raise_signal(TERM)
        await until(lambda: heard == [(TERM, "server's")])

    loop.run_until_complete(main())


def test_on_a_loop_without_handlers_nothing_is_taken_over(loop: asyncio.AbstractEventLoop) -> None:
    """The same holds outside of a loop."""

    async def main() -> None:
        assert take_from_loop(Owner(), __name__, NUMBERS) == []
        assert table_of(asyncio.get_running_loop()) == {}

    loop.run_until_complete(main())
    assert take_from_loop(Owner(), __name__, NUMBERS) == []
