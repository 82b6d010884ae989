"""Starts the demo on port 8000, or on the next one that is free: ``python -m examples``.

``HOST`` and ``PORT`` in the environment choose another address to begin at.
"""

from __future__ import annotations

import contextlib
import os
import socket

import uvicorn

ATTEMPTS = 100
"""How many ports are tried."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on the first free port.

    Args:
        host: address to listen on.
        port: where to begin.

    Returns:
        The socket, so that nobody takes the port before the server does.

    Raises:
        OSError: none of a hundred ports is free, or the address is not ours.
    """
    for candidate in range(port, port + ATTEMPTS):
        with contextlib.suppress(OSError):
            return socket.create_server((host, candidate), backlog=2048)
    raise OSError(f"no free port on {host} from {port} to {port + ATTEMPTS - 1}")


def main() -> None:
    """Print the address and serve the chat until Ctrl+C."""
    listener = listen(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))
    host, port = listener.getsockname()[:2]
    print(f"\n  The chat is at http://{host}:{port}\n  Ctrl+C ends it.\n", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config("examples.chat:app")).run(sockets=[listener])


if __name__ == "__main__":
    main()
