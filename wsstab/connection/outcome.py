"""Outcome: runs the application for one peer, and closes the connection by the outcome.

A handler that returns closes with 1000, a handler that raises closes with 1011. An error that only tells the handler
that its peer has left is no failure.
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
from .handler import Handler, ReceivedAfterEndError
from .peer import Peer, current_peer

__all__ = ["is_quiet", "run"]

logger = logging.getLogger("wsstab")


async def run(app: ASGIApp, scope: Scope, handler: Handler) -> None:
    """Run the application for one peer, and close the connection however the application ends.

    Args:
        app: the application.
        scope: the scope of the handshake.
        handler: provides the ``receive`` and ``send`` of the application.

    Raises:
        BaseException: the error of the application, if the server must hear of it.
    """
    peer = handler.peer
    token = current_peer.set(peer)
    watching = watch.set(peer.second_look)
    # Before the handler runs, which may never accept: the first visit is for the accept timeout.
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
                # For example the result of a cancelled task. A BaseException would end some servers.
                raise await _told_of(Uncaught(error), peer) from error
            else:
                await _finish(peer, RETURNED)
    finally:
        # No await from here on: a test client cancels the call right after the disconnect.
        peer.release()
        current_peer.reset(token)
        watch.reset(watching)


async def _told_of(error: Uncaught, peer: Peer) -> Uncaught:
    """`_settled`, in a frame of its own: the frame of `run` must not keep an error whose traceback holds that frame."""
    await _settled(error, peer)
    return error


async def _settled(error: Exception, peer: Peer) -> bool:
    """`_settle`; if the call is cancelled meanwhile, the error of the handler is still raised, as on a bare server."""
    try:
        return await _settle(error, peer)
    except anyio.get_cancelled_exc_class():
        if is_quiet(error, peer) or isinstance(error, WebSocketStabilizerError):
            raise
        return False


async def _settle(error: Exception, peer: Peer) -> bool:
    """Close the connection of a handler that raised; whether the error stays hidden from the server."""
    if is_quiet(error, peer):
        await peer.closing.settled()
        return True
    if isinstance(error, WebSocketStabilizerError):
        # A refused limit or token is an answer to the peer. An error without a close of its own is a mistake.
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
    """Whether an error only tells the handler that its peer has left, or that the connection was closed.

    A group is quiet if all its errors are: a reader and a writer learn of the end in different ways, and Starlette
    raises a RuntimeError in the second of them.
    """
    if not peer.sender.gone and peer.closing.close is None:
        return False
    errors = leaves(error)
    told = [each for each in errors if isinstance(each, (PeerGoneError, WebSocketDisconnect))]
    return bool(told) and (len(told) == len(errors) or all(each in told or is_echo(each) for each in errors))


def leaves(error: BaseException) -> list[BaseException]:
    """All errors in a group and in its nested groups; for any other error, the error itself."""
    members: tuple[BaseException, ...] | None = getattr(error, "exceptions", None)
    return [leaf for member in members for leaf in leaves(member)] if members else [error]


def is_echo(error: BaseException) -> bool:
    """Whether an error repeats that the connection has ended, raised where the end was told before."""
    if isinstance(error, ReceivedAfterEndError):
        return True
    return isinstance(error, RuntimeError) and module_of(innermost(error.__traceback__)) == "starlette.websockets"
