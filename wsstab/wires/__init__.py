"""Wires: how bytes reach a peer, on each server."""

from __future__ import annotations

from ..types import Receive, Scope, Send
from . import daphne, granian, hypercorn, uvicorn
from .asgi import AsgiWire
from .base import Wire
from .observers import look_through

__all__ = ["shield_server", "wire_for"]

RECOGNISERS = (uvicorn.recognise, hypercorn.recognise, daphne.recognise, granian.recognise)


def shield_server() -> None:
    """Isolate peers from each other where the running server does not; call before the first peer connects."""
    hypercorn.shield()


def wire_for(scope: Scope, receive: Receive, send: Send) -> Wire:
    """The wire for the server that made this ``send``; plain ASGI if the server is not known.

    Observers around the server are looked through; they still see the handshake, a refusal and the close.
    """
    inner_receive = look_through(receive)
    wire = _recognise(scope, inner_receive, send)
    if wire is None and (inner := look_through(send)) is not send:
        wire = _recognise(scope, inner_receive, inner)
        if wire is not None:
            wire.announce_to(send)
    return wire or AsgiWire(receive, send)


def _recognise(scope: Scope, receive: Receive, send: Send) -> Wire | None:
    for recognise in RECOGNISERS:
        wire = recognise(scope, receive, send)
        if wire is not None:
            return wire
    return None
