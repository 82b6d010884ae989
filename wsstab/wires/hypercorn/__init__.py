"""The wire to a WebSocket stream of hypercorn: on asyncio, uvloop and trio, over HTTP/1.1 and HTTP/2.

Recognised by the ``send`` that hypercorn passes to the application. Over HTTP/1.1 on asyncio and
uvloop, frames go straight to the transport; on trio and over HTTP/2 they go through hypercorn's own
lock, one write at a time. In both cases the wire sees what the peer sends on its way from wsproto to
hypercorn: by itself hypercorn tells an application neither of a pong nor how its peer closed, and
counts characters where bytes are meant. The module ``shield`` deals with what happens before an
application is called, and lists the private names that it uses.

Private names of hypercorn used here; all are checked at recognition, and if one is missing, the plain
ASGI wire is used and one line is logged. Tried with hypercorn 0.17 and 0.18.

===================  ======================================================================
stream               ``send``, ``app_put``, ``handshake``, ``buffer.max_length``, ``config``, ``state``,
                     ``closed``, ``stream_id``, ``connection`` (of wsproto), ``_send_pings``
HTTP/1.1             ``stream.send.__self__.send`` of the protocol
asyncio, uvloop      ``writer``, ``reader`` of the TCP server; methods of its transport's protocol
trio                 ``stream``, ``_close`` of the TCP server
HTTP/2               ``connection``, ``streams``, ``stream_buffers``, ``_close_stream``, ``_flush`` of the protocol
wsproto              ``connection._state``, see also the module ``wsproto`` beside this one
===================  ======================================================================
"""

from __future__ import annotations

from typing import Any

from ...types import Receive, Scope, Send
from ..base import Wire, lacks, owner_of
from .http1 import HypercornWire
from .peer import comes_from
from .shield import shield
from .stream import Http2Wire, StreamWire, TrioWire

__all__ = ["Http2Wire", "HypercornWire", "StreamWire", "TrioWire", "recognise", "shield"]

STREAM = ("send", "app_put", "handshake", "buffer.max_length", "config", "state", "closed", "stream_id", "_send_pings")


def recognise(scope: Scope, receive: Receive, send: Send) -> Wire | None:
    """The wire for this connection, ``None`` when ``send`` is not hypercorn's own."""
    stream: Any = owner_of(send)
    if not comes_from(stream, "hypercorn.protocol.ws_stream") or lacks(stream, STREAM, "hypercorn's stream"):
        return None
    # Without a lifespan, the shield works from the second connection on.
    shield()
    protocol = getattr(stream.send, "__self__", None)
    server = getattr(getattr(protocol, "send", None), "__self__", None)
    for wire_class in (HypercornWire, TrioWire, Http2Wire):
        if wire_class.fits(protocol, server):
            owner = protocol if wire_class is Http2Wire else server
            if lacks(owner, wire_class.needs, wire_class.what):
                return None
            if "state" in scope:
                # hypercorn 0.17 shares one state among all streams of a connection, and only the garbage collector
                # frees it.
                scope["state"] = scope["state"].copy()
            return wire_class(stream, receive, send)
    # HTTP/3, for which plain ASGI is all that is available.
    return None
