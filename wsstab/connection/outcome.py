"""The outcome of a handler: it runs, and what it comes to ends its connection.

A handler that returns closes with 1000, one that raises with 1011; an error by which it only learned that its peer has
left is none.
"""

from __future__ import annotations

import logging

import anyio
from starlette.websockets import WebSocketDisconnect

from ..close import RAISED, RETURNED, Close
from ..config.marks import watch
from ..core.lifecycle import OutboundState
from ..errors import PeerGoneError, WebSocketStabilizerError
from ..loop.usercode import Uncaught, ends_the_process, is_cancellation
from ..types import ASGIApp, Scope
from ..wires.departure import innermost, module_of
from ..wording import quoted
from .base import CLOSE_TIMEOUT
from .handler import Handler
from .peer import Peer, current_peer

__all__ = ["is_quiet", "run"]

logger = logging.getLogger("wsstab")


async def run(app: ASGIApp, scope: Scope, handler: Handler) -> None:
    """Run the application for one peer, and end the connection whatever becomes of the application.

    Args:
        app: the application.
        scope: of the handshake.
        handler: the application's side of the peer.

    Raises:
        BaseException: what the application raised, where the server must hear of it.
    """
    peer = handler.peer
    token = current_peer.set(peer)
    watching = watch.set(peer.second_look)
    peer.heartbeat.schedule()
    try:
        with peer.loop.cancel_scope() as peer.carrier.scope:
            try:
                await app(scope, handler.receive, handler.send)
            except Exception as error:
                if not await _settled(error, peer):
                    raise
            except BaseException as error:
                if isinstance(error, GeneratorExit) or ends_the_process(error) or is_cancellation(error):
                    raise
                # Such as the result of a cancelled task. Some servers end by what is no Exception.
                raise await _told_of(Uncaught(error), peer) from error
            else:
                await _finish(peer, RETURNED)
    finally:
        # No await from here on: a test client cancels right after a disconnect.
        peer.release()
        current_peer.reset(token)
        watch.reset(watching)


async def _told_of(error: Uncaught, peer: Peer) -> Uncaught:
    """`_settled`; in no frame that its traceback holds is the error kept, which would be a cycle."""
    await _settled(error, peer)
    return error


async def _settled(error: Exception, peer: Peer) -> bool:
    """`_settle`; who is cancelled meanwhile still raises the error of the handler, as without us."""
    try:
        return await _settle(error, peer)
    except anyio.get_cancelled_exc_class():
        if is_quiet(error, peer) or isinstance(error, WebSocketStabilizerError):
            raise
        return False


async def _settle(error: Exception, peer: Peer) -> bool:
    """End the connection of a handler that raised; whether the server need not hear of it."""
    if is_quiet(error, peer):
        await peer.closing.settled()
        return True
    if isinstance(error, WebSocketStabilizerError):
        # A limit or a token that is refused is an answer to the peer; what has no close of its own is a mistake.
        trace = error if error.close is RAISED else None
        if peer.owner.may_tell("an error escaped a handler"):
            line = "! an error escaped the handler of %s: %s"
            logger.warning(line, peer.log_name(), quoted(error), extra=peer.log_fields(), exc_info=trace)
    await _close_for(error, peer)
    return isinstance(error, WebSocketStabilizerError)


async def _close_for(error: Exception, peer: Peer) -> None:
    close = error.close if isinstance(error, WebSocketStabilizerError) else RAISED
    if peer.lifecycle.outbound is OutboundState.CONNECTING:
        if isinstance(error, WebSocketStabilizerError):
            peer.closing.begin(close.refusing())
            await peer.closing.latch.wait()
        elif not peer.wire.traits.error_response:
            with anyio.move_on_after(CLOSE_TIMEOUT):
                await peer.carrier.deny(RAISED)
        return
    if not isinstance(error, WebSocketStabilizerError):
        peer.wire.leave_error_to_server()
    await _finish(peer, close)


async def _finish(peer: Peer, close: Close) -> None:
    if peer.lifecycle.outbound is OutboundState.OPEN or peer.closing.close is not None:
        peer.closing.begin(close)
        await peer.closing.latch.wait()


def is_quiet(error: BaseException, peer: Peer) -> bool:
    """Whether this is only how a handler learned that its peer has left, or that we closed.

    A group is when all that is in it is: of a reader and a writer each learns it in its own way, and Starlette has a
    RuntimeError for the second of them.
    """
    if not peer.sender.gone and peer.closing.close is None:
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
    return isinstance(error, RuntimeError) and module in ("starlette.websockets", "wsstab.connection.handler")
