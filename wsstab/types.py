"""Types of ASGI that the whole package uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias, TypeVar

__all__ = ["ASGIApp", "Event", "Itself", "Receive", "Scope", "Send", "Transport"]

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

PEER_KEY = "wsstab.peer"
"""Key of the peer in the scope of a WebSocket behind the middleware; no option renames it."""

T = TypeVar("T")


class Transport(Protocol):
    """The transport to which bytes are written."""

    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""

    def write(self, data: bytes) -> object:
        """Send the data, or keep it until it can be sent."""


class Itself:
    """An object in a scope that copies as itself, because some middleware makes a deep copy of the whole scope."""

    __slots__ = ()

    def __copy__(self: T) -> T:
        return self

    def __deepcopy__(self: T, memo: object) -> T:
        return self
