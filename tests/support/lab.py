"""One stabilised application inside a running server, as a test handles it."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from .peer import Peer
from .server import Server
from .waiting import eventually

__all__ = ["Lab"]

EVERYTHING = "tests.support.apps.everything:make_app"


class Lab:
    """A fresh application with a manager of its own.

    Args:
        server: the server that runs it, on ``tests.support.apps.lab:app``.
        app: module:attribute of the application, or of a ``make…`` function.
        options: fields of its configuration.
    """

    def __init__(self, server: Server, app: str = EVERYTHING, **options: Any) -> None:
        self.server = server
        self.peers: list[Peer] = []
        self.forgiven: list[str] = []
        self.log_start = len(server.log)
        self.key: str = server.post("/-/open", {"app": app, "options": options})
        server.labs += 1

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self, path: str, **handshake: Any) -> Peer:
        """Open a WebSocket to a path of the application; see `Peer` for the arguments."""
        peer = Peer(handshake.pop("address", self.server.address), f"/{self.key}{path}", **handshake)
        self.peers.append(peer)
        return peer

    def path(self, path: str) -> str:
        """The path as the server knows it."""
        return f"/{self.key}{path}"

    @property
    def statistics(self) -> dict[str, Any]:
        """The manager's statistics."""
        return dict(self._look("statistics"))

    @property
    def held(self) -> dict[str, int]:
        """How many of each thing the manager holds for connections, without those that are zero."""
        return {name: count for name, count in self._look("held").items() if count}

    @property
    def notes(self) -> list[Any]:
        """What handlers noted."""
        return list(self._look("notes"))

    @property
    def connections(self) -> list[dict[str, Any]]:
        """The open connections."""
        return list(self._look("connections"))

    @property
    def log(self) -> str:
        """What the server wrote since this lab opened."""
        return self.server.log[self.log_start :]

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The events so far, all or of one class."""
        return [event for event in self._look("events") if kind in (None, event["type"])]

    def event(self, kind: str, within: float = 5.0) -> dict[str, Any]:
        """Wait for the first event of a class."""
        return eventually(lambda: self.events(kind), within)[0]

    def note(self, within: float = 5.0) -> Any:
        """Wait for the first note."""
        return eventually(lambda: self.notes, within)[0]

    def call(self, method: str, *args: Any, client_id: str | None = None, **kwargs: Any) -> Any:
        """Call a method of the manager, or of one client's connection.

        Returns:
            What it returned, or ``{"error": class name, "message": text}``.
        """
        job = {"method": method, "args": args, "kwargs": kwargs, "client_id": client_id}
        answer = self.server.post(f"/-/{self.key}/call", job)
        return answer.get("result", answer)

    def burst(
        self, count: int, size: int = 16, *, text: bool = True, room: str | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """Broadcast numbered messages, and return the sums of the results.

        Args:
            count: how many.
            size: bytes of each.
            text: as text, else as bytes.
            room: the room that gets them; ``None`` for everybody.
            key: for the policy ``latest``; ``{number}`` is the number of the message.
        """
        job = {"count": count, "size": size, "text": text, "room": room, "key": key}
        return dict(self.server.post(f"/-/{self.key}/burst", job, within=120))

    def wait_for_connections(self, count: int, within: float = 5.0) -> None:
        """Wait until this many connections are open."""
        eventually(lambda: self.statistics["connections"] == count, within)

    def forgive(self, *patterns: str) -> None:
        """Expect complaints of the server that match one of these."""
        self.forgiven += patterns

    def close(self) -> None:
        """End peers and application, and check that nothing is left of them.

        Raises:
            AssertionError: tasks are left over, or the server complained about a mistake.
        """
        for peer in self.peers:
            peer.vanish()
        self.server.post(f"/-/{self.key}/close")
        self.server.labs -= 1
        if self.server.labs == 0:
            eventually(lambda: self.server.get("/-/tasks") == [], within=15)
        assert not (found := self.server.complaints(self.log_start, self.forgiven)), (found, self.log[-3000:])

    def _look(self, view: str) -> Any:
        return self.server.get(f"/-/{self.key}/{view}")
