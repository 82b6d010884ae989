"""What each server can and cannot do: one row for each variant.

The wires, the conformance suite and the README's matrix read the same rows. Each fact was measured
on the real server; ``docs/servers.md`` says how, with which versions, and what follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["ASGI", "TRAITS", "Traits"]


@dataclass(frozen=True)
class Traits:
    """What one variant of a server, with the wire made for it, can do.

    Args:
        server: its name, with the implementation or event loop where they differ.
        receive_cancellable: a pending ``receive()`` may be cancelled without losing a message.
        closes_while_receiving: a close gets out while a ``receive()`` is pending.
        native_ping: a WebSocket ping can be sent, and its pong is seen.
        can_abort: the TCP connection can be ended at once.
        buffer_size: the server tells how many bytes have not left the process.
        native_frames: we write frames ourselves, compressed once for all.
        deflate: permessage-deflate is negotiated with peers that offer it.
        compression_switch: ``compression="none"`` can act.
        early_size_limit: the server can be told ``max_message_size``, and refuses before a message is in memory.
        accept_headers: headers of ``websocket.accept`` reach the peer.
        error_response: the server itself answers 500 if a handler raises before accept.
        disconnect_reasons: a disconnect event carries the reason of the close.
        largest_message: size in bytes above which the server always refuses a message; ``None`` for no fixed limit.
        lifespan: the server tells the application when it starts and stops.
    """

    server: str
    receive_cancellable: bool = True
    closes_while_receiving: bool = True
    native_ping: bool = True
    can_abort: bool = True
    buffer_size: bool = True
    native_frames: bool = True
    deflate: bool = True
    compression_switch: bool = True
    early_size_limit: bool = True
    accept_headers: bool = True
    error_response: bool = True
    disconnect_reasons: bool = True
    largest_message: int | None = None
    lifespan: bool = True


ASGI = Traits(
    "asgi",
    # For unknown servers, assume only what is safe everywhere.
    receive_cancellable=False,
    closes_while_receiving=False,
    native_ping=False,
    can_abort=False,
    buffer_size=False,
    native_frames=False,
    deflate=False,
    compression_switch=False,
    early_size_limit=False,
)
"""Any server, driven by plain ASGI."""

UVICORN = Traits("uvicorn")

HYPERCORN = Traits("hypercorn")

# Variants that differ only in name have rows too: the conformance suite and the matrix read one for each.
ROWS = [
    ASGI,
    replace(UVICORN, server="uvicorn websockets-sansio"),
    replace(UVICORN, server="uvicorn wsproto"),
    replace(UVICORN, server="uvicorn websockets"),
    replace(HYPERCORN, server="hypercorn asyncio"),
    replace(HYPERCORN, server="hypercorn uvloop"),
    replace(HYPERCORN, server="hypercorn trio"),
    replace(HYPERCORN, server="hypercorn http/2"),
    replace(
        ASGI,
        server="granian",
        accept_headers=False,
        error_response=False,
        disconnect_reasons=False,
        largest_message=16_777_216,
    ),
    Traits("daphne", deflate=False, lifespan=False),
]

TRAITS: dict[str, Traits] = {row.server: row for row in ROWS}
"""The rows, by the name of the server."""
