"""How bytes reach a peer, on each server."""

from __future__ import annotations

from ..types import Receive, Scope, Send
from . import daphne, granian, hypercorn, uvicorn
from .asgi import AsgiWire
from .base import Wire

__all__ = ["wire_for"]

RECOGNISERS = (uvicorn.recognise, hypercorn.recognise, daphne.recognise, granian.recognise)


def wire_for(scope: Scope, receive: Receive, send: Send) -> Wire:
    """The wire of the server whose ``send`` this is; plain ASGI where it is not known."""
    for recognise in RECOGNISERS:
        wire = recognise(scope, receive, send)
        if wire is not None:
            return wire
    return AsgiWire(receive, send)
