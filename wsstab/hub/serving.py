"""Serving: which server a connection came through, where several serve one application and stop one by one."""

from __future__ import annotations

from ..types import Itself, Scope

__all__ = ["SERVER_KEY", "ServingServer", "server_of"]

SERVER_KEY = "wsstab.server"
"""Key in the state of the lifespan, which servers copy into each scope, that holds the `ServingServer`."""


class ServingServer(Itself):
    """One of the servers that serve the application in this process.

    Attributes:
        stopping: whether it was told to stop.
    """

    def __init__(self) -> None:
        self.stopping = False


def server_of(scope: Scope) -> ServingServer | None:
    """The server that made a scope; ``None`` if it runs no lifespan, or shares no state."""
    state = scope.get("state")
    server = state.get(SERVER_KEY) if type(state) is dict else None
    return server if isinstance(server, ServingServer) else None
