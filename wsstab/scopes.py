"""What is put into a scope that is the application's: it may be frozen, foreign, or have our name in it already."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from starlette.datastructures import State

from .types import Scope

__all__ = ["keep", "taken"]


def keep(scope: Scope, key: str, value: object) -> object:
    """What is under a name in ``scope["state"]``: ``value``, if nobody has used it.

    A state that cannot be written to is replaced by a copy, Starlette's own is written into, and one of another kind
    stays as it is: there the scope alone leads to the manager.
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
    """What to say of a name in ``scope["state"]`` that somebody else has used."""
    return RuntimeError(
        f'scope["state"][{key!r}] holds {there!r}, which is not of this middleware: choose another name with {option}='
    )
