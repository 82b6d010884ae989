"""uvicorn: installs ``Server.handle_exit`` with ``signal.signal`` before the lifespan starts.

True of its single process, each of its workers and its reloader's child. At the signal uvicorn
closes every socket at once; taken over, it does so when the drain is over.
"""

from __future__ import annotations

__all__ = ["handles"]


def handles(handler: object) -> bool:
    """Whether this is the handler of a uvicorn server."""
    server = getattr(handler, "__self__", None)
    return (
        getattr(handler, "__name__", "") == "handle_exit"
        and any(base.__module__.partition(".")[0] == "uvicorn" for base in type(server).__mro__)
        and hasattr(server, "should_exit")
    )
