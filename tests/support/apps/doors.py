"""Callables that options name: for ``authorize``, ``client_address`` and ``custom_heartbeat``."""

from __future__ import annotations

from typing import Any

from wsstab import Close
from wsstab.types import Scope

__all__ = ["allow", "ban", "beat", "break_down", "forwarded", "name", "refuse"]


async def allow(scope: Scope) -> bool:
    """Let everybody in."""
    return True


async def refuse(scope: Scope) -> bool:
    """Let nobody in."""
    return False


async def ban(scope: Scope) -> Close:
    """Refuse with a reason of our own."""
    return Close(4403, "banned", status=401)


async def name(scope: Scope) -> str:
    """Let a peer in under the name in its ``X-Name`` header."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers[b"x-name"].decode()


async def break_down(scope: Scope) -> bool:
    """Fail."""
    raise LookupError("the user database is away")


def forwarded(scope: Scope) -> str:
    """Take the address from a header of our own."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers.get(b"x-address", b"nowhere").decode()


def beat() -> dict[str, Any]:
    """A heartbeat message of our own."""
    return {"beat": 1}
