"""Which server a connection came by: several may serve one application in one process, and each stops for itself."""

from __future__ import annotations

from ..types import Itself, Scope

__all__ = ["SERVER_KEY", "ServingServer", "server_of"]

SERVER_KEY = "wsstab.server"
"""Where the state of a lifespan, and of each scope that a server makes of it, says which server that is."""


class ServingServer(Itself):
    """One server that serves the application: several may, in one process.

    Attributes:
        stopping: whether it was told to stop.
    """

    def __init__(self) -> None:
        self.stopping = False


def server_of(scope: Scope) -> ServingServer | None:
    """The server that a scope is from; ``None`` where it has no lifespan, or no state."""
    state = scope.get("state")
    server = state.get(SERVER_KEY) if type(state) is dict else None
    return server if isinstance(server, ServingServer) else None
