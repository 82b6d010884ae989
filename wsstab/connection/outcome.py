"""The outcome of a handler: whether an error that ended it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.websockets import WebSocketDisconnect

from ..errors import PeerGoneError
from ..wires.departure import innermost, module_of

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["is_quiet"]


def is_quiet(error: BaseException, connection: Connection) -> bool:
    """Whether this is only how a handler learned that its peer has left, or that we closed.

    A group is when all that is in it is: of a reader and a writer each learns it in its own way, and Starlette has a
    RuntimeError for the second of them.
    """
    if not connection.sender.gone and connection.ending.close is None:
        return False
    errors = leaves(error)
    told = [each for each in errors if isinstance(each, (PeerGoneError, WebSocketDisconnect))]
    return bool(told) and (len(told) == len(errors) or all(each in told or is_echo(each) for each in errors))


def leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group, and of the groups in it; of any other error itself."""
    members: tuple[BaseException, ...] | None = getattr(error, "exceptions", None)
    return [leaf for member in members for leaf in leaves(member)] if members else [error]


def is_echo(error: BaseException) -> bool:
    """Whether somebody says by this error that it was said before that the connection is over."""
    module = module_of(innermost(error.__traceback__))
    return isinstance(error, RuntimeError) and module in ("starlette.websockets", "wsstab.connection.receiver")
