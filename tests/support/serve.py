"""Runs uvicorn on a listening socket that was inherited: ``python -m tests.support.serve <json>``.

The socket is bound and listening before this process starts, so its port is
known without a race and connections wait in the backlog until uvicorn is up.
SIGUSR1 prints every thread's stack, for a test that hangs.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn

__all__ = ["main"]


def main(argument: str) -> None:
    """Serve until told to stop.

    Args:
        argument: JSON with ``fd`` of the socket, ``app`` as module:attribute and ``uvicorn``, its options.
    """
    job = json.loads(argument)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    keep_coverage()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    server = uvicorn.Server(uvicorn.Config(job["app"], **job["uvicorn"]))
    server.run(sockets=[socket.socket(fileno=job["fd"])])


def keep_coverage() -> None:
    """Measure this process too, where the test run is measured.

    Uvicorn ends by raising the signal that stopped it, so nothing registered with atexit runs;
    the handler that it restores first is ours.
    """
    if "COVERAGE_PROCESS_START" not in os.environ:
        return
    import coverage

    measure = coverage.process_startup() or coverage.Coverage.current()

    def save(number: int, frame: FrameType | None) -> None:
        if measure is not None:
            measure.stop()
            measure.save()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, save)
    signal.signal(signal.SIGINT, save)


if __name__ == "__main__":
    main(sys.argv[1])
