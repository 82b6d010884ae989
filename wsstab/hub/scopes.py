"""Scopes: puts names of ours into the application's scope, which may be frozen or use the name already."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from starlette.datastructures import State

from ..types import Scope
from ..wording import shown
from .serving import SERVER_KEY

__all__ = ["check_keys", "is_engine_io", "keep", "taken"]


def check_keys(manager_key: object, connection_key: object) -> None:
    """Refuse names in ``scope["state"]`` with which every request would fail.

    Raises:
        ValueError: a name is no text, is empty, is reserved, or both are the same.
    """
    for option, key in (("manager_key", manager_key), ("connection_key", connection_key)):
        if not isinstance(key, str) or not key or key == SERVER_KEY:
            raise ValueError(f"{option}={shown(key)}: must be a text that is not empty, and not {SERVER_KEY!r}")
    if manager_key == connection_key:
        raise ValueError(f"connection_key={shown(connection_key)}: must be another name than manager_key")


def keep(scope: Scope, key: str, value: object) -> object:
    """Put a value under a name in ``scope["state"]`` unless the name is used; return what stands there afterwards.

    A read-only mapping is replaced by a copy, and Starlette's ``State`` is written into. A state of any other kind is
    left alone; only the scope itself then leads to the manager.
    """
    state = scope.get("state")
    if type(state) is dict:
        return state.setdefault(key, value)
    if isinstance(state, State):
        state = state._state
    if state is None or (isinstance(state, Mapping) and not isinstance(state, MutableMapping)):
        state = scope["state"] = dict(state or {})
    return state.setdefault(key, value) if isinstance(state, MutableMapping) else value


def taken(key: str, there: object, option: str) -> RuntimeError:
    """The error for a name in ``scope["state"]`` that somebody else uses."""
    held = f'scope["state"][{key!r}] holds {shown(there)}'
    return RuntimeError(f"{held}, which is not of this middleware: choose another name with {option}=")


def is_engine_io(scope: Scope) -> bool:
    """Whether this is an Engine.IO (Socket.IO) connection: a protocol of its own that selects no subprotocol."""
    query = scope.get("query_string", b"")
    return b"EIO=" in query and b"transport=websocket" in query
