"""Runs a server on a listening socket that was inherited: ``python -m tests.support.serve <json>``.

The socket is bound and listening before this process starts, so its port is
known without a race and connections wait in the backlog until the server is
up. Each server runs as its own command line would run it, workers included.
``WSSTAB_TEST_MODE`` makes its tasks eager (``eager``), puts asyncio into its debug mode (``debug``)
or Python into its development mode with warnings as errors (``dev``).
SIGUSR1 prints every thread's stack, for a test that hangs.
"""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["main"]

Job = dict[str, Any]


def main(argument: str) -> None:
    """Serve until told to stop.

    Args:
        argument: JSON with ``server``, ``implementation`` and ``loop``, ``app`` as module:attribute,
            ``fd`` and ``port`` of the socket, ``tls`` as paths of certificate and key, ``settings``.
    """
    job = json.loads(argument)
    prepare()
    SERVERS[job["server"]](job)


def prepare() -> None:
    """What every process of a server does first."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    keep_coverage()
    if os.environ.get("WSSTAB_TEST_MODE") == "eager":
        make_tasks_eager()


def make_tasks_eager() -> None:
    """Give each loop of asyncio the eager task factory of Python 3.12, as an application may.

    HTTP calls are left out: when one ends before its task is known, hypercorn and daphne themselves fail.
    """
    original = asyncio.BaseEventLoop.__init__

    def begin(coroutine: Any, *, eager_start: bool = False, **more: Any) -> asyncio.Task[Any]:
        scope = inspect.getcoroutinelocals(coroutine).get("scope") if inspect.iscoroutine(coroutine) else None
        is_http = isinstance(scope, dict) and scope.get("type") == "http"
        more["eager_start"] = eager_start and not is_http
        return asyncio.Task(coroutine, **more)

    # Python's factory and no function of ours: anyio recognises the former by its code, and handles it differently.
    factory = asyncio.create_eager_task_factory(begin)  # type: ignore[attr-defined,unused-ignore]

    def init(loop: asyncio.BaseEventLoop, *arguments: Any, **more: Any) -> None:
        original(loop, *arguments, **more)
        loop.set_task_factory(factory)

    asyncio.BaseEventLoop.__init__ = init  # type: ignore[assignment, method-assign]


def serve_uvicorn(job: Job) -> None:
    """uvicorn in this process."""
    import uvicorn

    settings = {"ws": job["implementation"], "loop": job["loop"], "log_level": job["log_level"], "backlog": 2048}
    settings |= dict(zip(("ssl_certfile", "ssl_keyfile"), job["tls"] or (), strict=False))
    server = uvicorn.Server(uvicorn.Config(job["app"], **settings | job["settings"]))
    server.run(sockets=[socket.socket(fileno=job["fd"])])


def serve_hypercorn(job: Job) -> None:
    """hypercorn, which serves in a child."""
    from hypercorn.config import Config
    from hypercorn.run import run

    settings = {"application_path": job["app"], "worker_class": job["loop"], "bind": [f"fd://{job['fd']}"]}
    settings |= {"backlog": 2048, "errorlog": "-", "loglevel": "INFO"}
    settings |= dict(zip(("certfile", "keyfile"), job["tls"] or (), strict=False))
    sys.exit(run(Config.from_mapping(settings | job["settings"])))


def serve_granian(job: Job) -> None:
    """granian, which serves in a child."""
    from pathlib import Path

    from granian.constants import Interfaces, Loops
    from granian.server import Server

    settings = {"address": "127.0.0.1", "port": job["port"], "loop": Loops(job["loop"]), "backlog": 2048}
    settings["interface"] = Interfaces(job["settings"].pop("interface", "asgi"))
    settings |= {name: Path(path) for name, path in zip(("ssl_cert", "ssl_key"), job["tls"] or (), strict=False)}
    Server(job["app"], **settings | job["settings"]).serve()


def serve_daphne(job: Job) -> None:
    """daphne in this process."""
    from daphne.cli import CommandLineInterface

    settings = [part for name, value in job["settings"].items() for part in (f"--{name}", str(value))]
    where = ["--fd", str(job["fd"])]
    if job["tls"]:
        certificate, key = job["tls"]
        where = ["--endpoint", f"ssl:{job['port']}:interface=127.0.0.1:certKey={certificate}:privateKey={key}"]
    CommandLineInterface().run([*where, "--verbosity", "1", *settings, job["app"]])


SERVERS: dict[str, Callable[[Job], None]] = {
    "uvicorn": serve_uvicorn,
    "hypercorn": serve_hypercorn,
    "granian": serve_granian,
    "daphne": serve_daphne,
}


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
elif __name__ == "__mp_main__":
    # This is a spawned worker.
    prepare()
