"""One composition at one place on one server, as a test handles it: bare and wrapped."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import pytest

from tests.composition.rows import BROWSER, CLIENTS, ROWS, SERVERS, Row
from tests.support.peer import Denied, Peer, Vanished
from tests.support.server import Server, Variant
from tests.support.waiting import eventually

__all__ = ["BARE", "CASES", "HOUSES", "WRAPPED", "Asked", "Case", "House", "on_servers", "trouble"]

BARE, WRAPPED = "bare", "wrapped"

TROUBLE = re.compile(r"^.*(?:Traceback \(most recent|never retrieved|never awaited|was destroyed but).*$", re.MULTILINE)
"""Lines in a log that report a mistake, or an error that nobody caught."""

CHAINED = re.compile(r"^.*(?:was the direct cause of the following|During handling of the above).*$", re.MULTILINE)

numbers = itertools.count(1)


@dataclass(frozen=True)
class House:
    """A process of a server, which runs a group of compositions."""

    process: str
    variant: Variant

    def __str__(self) -> str:
        return f"{self.process}-{self.variant}"


@dataclass(frozen=True)
class Asked:
    """What a test is about: a composition at a place, in a house."""

    row: Row
    place: str
    house: House

    def __str__(self) -> str:
        return f"{self.house.variant}-{self.row.name}-{self.place}"


HOUSES = [House(process, variant) for process in dict.fromkeys(row.process for row in ROWS) for variant in SERVERS]

CASES = {
    of_clients: [
        Asked(row, place, house)
        for house in HOUSES
        for row in ROWS
        if row.process == house.process and row.runs_on(house.variant)
        if (row.process == CLIENTS) == bool(of_clients) and row.process != BROWSER
        for place in row.places
    ]
    for of_clients in ("", CLIENTS)
}
"""Every composition at each of its places on every server where it runs: those that are asked every question,
and those with a client of their own. The cases of one house are next to each other."""


def on_servers(cases: list[Asked]) -> pytest.MarkDecorator:
    """Parametrizes a test with these cases, whose houses run as long as they are needed."""
    return pytest.mark.parametrize(
        ("house", "asked"),
        [(case.house, case) for case in cases],
        ids=[str(case) for case in cases],
        indirect=["house"],
        scope="session",
    )


@dataclass(frozen=True)
class Failure:
    """How a handler that failed ended.

    Args:
        words: the words of its error.
        ending: how its WebSocket ended.
        printed: how often the error is in the log.
    """

    words: str
    ending: tuple[str, int]
    printed: int


class Case:
    """A composition in a running server.

    Args:
        server: the server of its house.
        asked: the composition and its place.
    """

    def __init__(self, server: Server, asked: Asked) -> None:
        self.server = server
        self.asked = asked
        self.row, self.place, self.variant = asked.row, asked.place, asked.house.variant
        self.peers: list[Peer] = []

    def __enter__(self) -> Case:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for peer in self.peers:
            peer.vanish()
        eventually(lambda: self.look(WRAPPED)["wires"] == [])

    def path(self, kind: str, path: str) -> str:
        """A path of the program, as the server knows it."""
        return f"/{self.row.name}/{self.place}/{kind}{path}"

    def connect(self, kind: str, path: str, **handshake: Any) -> Peer:
        """Open a WebSocket of the bare or of the wrapped program."""
        peer = Peer(self.server.address, self.path(kind, path), **handshake)
        self.peers.append(peer)
        return peer

    def look(self, kind: str) -> dict[str, Any]:
        """What its handlers noted, and on which wires its connections are."""
        return dict(self.server.get(f"/-/look/{self.row.name}/{self.place}/{kind}"))

    def notes(self, kind: str, more_than: int, within: float = 10.0) -> list[Any]:
        """Wait until its handlers have more than this many notes, and return the additional ones."""
        return eventually(lambda: self.look(kind)["notes"][more_than:], within)

    def both(self, question: Callable[[str], Any]) -> tuple[Any, Any]:
        """The answers of the bare program and of the wrapped one."""
        return question(BARE), question(WRAPPED)

    def ending(self, kind: str, path: str, within: float = 0.3) -> tuple[str, int]:
        """How the server ends a WebSocket: by a status, a close code, the end of TCP alone, or not yet."""
        try:
            return "close", self.connect(kind, path).receive_close(within).code
        except Denied as denied:
            return "status", denied.answer.status
        except Vanished:
            return "gone", 1006
        except TimeoutError:
            return "open", 0

    def ends(self, path: str, how: tuple[str, int]) -> None:
        """Check that a wrapped WebSocket ends in this way."""
        assert self.ending(WRAPPED, path, within=5.0) == how

    def failing(self, path: str, leave: bool = False) -> tuple[Failure, Failure]:
        """Let the handlers of both programs fail.

        Args:
            path: the path of a handler that fails with the words of its query string.
            leave: whether the peer leaves first.

        Returns:
            How they ended, bare and wrapped, once both errors are in the log.
        """
        start = len(self.server.log)
        bare, wrapped = self.both(lambda kind: self._fail(kind, path, leave))
        failures = [Failure(words, ending, 0) for words, ending in (bare, wrapped)]
        # daphne looks for ended applications once in a second.
        eventually(lambda: all(printed(self.server.log[start:], failure.words) for failure in failures))
        self.server.get("/-/health")
        log = self.server.log[start:]
        first, second = (replace(failure, printed=printed(log, failure.words)) for failure in failures)
        return first, second

    def _fail(self, kind: str, path: str, leave: bool) -> tuple[str, tuple[str, int]]:
        words = f"error-{next(numbers)}-"
        if leave:
            self.connect(kind, f"{path}?{words}").vanish()
            return words, ("left", 0)
        return words, self.ending(kind, f"{path}?{words}", within=5.0 if kind == WRAPPED else 0.3)

    def log_of(self, action: Callable[[], Any]) -> str:
        """What the server logged during an action."""
        start = len(self.server.log)
        action()
        self.server.get("/-/health")
        return self.server.log[start:]


def printed(log: str, words: str) -> int:
    """How often an error with these words is in a log; an access log has them too."""
    return len(re.findall(rf"^[ |]*\w*Error: .*{words}", log, re.MULTILINE))


def trouble(log: str) -> int:
    """How often a log reports a mistake, or an error that nobody caught; a chain of errors counts once."""
    return len(TROUBLE.findall(log)) - len(CHAINED.findall(log))
