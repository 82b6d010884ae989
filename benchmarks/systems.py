"""The systems that are measured, and how each is started: a process of its own, on one core."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["SYSTEMS", "Running", "System"]

ROOT = Path(__file__).parent.parent
NODE = ROOT / "benchmarks" / "node"
SERVER_CORE = 0


@dataclass(frozen=True)
class System:
    """A system that is measured.

    Args:
        name: its name in the tables.
        command: the command that starts it; ``{port}`` is its port.
        environment: additional variables; ``PORT`` is always there.
        needs: Python modules, or programs and files of Node's, without which it is left out.
        directory: the directory in which it starts.
        socketio: whether it speaks Socket.IO rather than plain messages.
        what: the capabilities that scenarios ask for.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    directory: Path = ROOT
    socketio: bool = False
    what: frozenset[str] = frozenset({"broadcast", "echo", "rooms"})

    def missing(self) -> list[str]:
        """The needs that are not met."""
        return [need for need in self.needs if not is_there(need)]

    @contextmanager
    def running(self, **environment: str) -> Iterator[Running]:
        """Run it while the block runs."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [part.format(port=port) for part in self.command],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment, **environment, "PORT": str(port)},
            # Clients leave without a close frame, about which some servers log a lot.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=pin_to_server_core,
        )
        running = Running(self, port, process)
        try:
            running.wait_until_up()
            yield running
        finally:
            running.kill()


class Running:
    """A system that runs.

    Attributes:
        system: the system.
        port: its port on 127.0.0.1.
        process: the process that was started.
    """

    def __init__(self, system: System, port: int, process: subprocess.Popen[bytes]) -> None:
        self.system = system
        self.port = port
        self.process = process

    def wait_until_up(self, within: float = 20.0) -> None:
        """Wait until its port answers.

        Raises:
            RuntimeError: it ended, or did not come up.
        """
        until = time.monotonic() + within
        while time.monotonic() < until and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.system.name} did not start")

    @property
    def pids(self) -> list[int]:
        """Its process and the children of that."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    @property
    def memory(self) -> int:
        """Resident bytes of all its processes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu(self) -> float:
        """Seconds of processor time that all its processes have used."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it, and all it started."""
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()


def pin_to_server_core() -> None:
    """Pin the server to a core, and leave the others to the load."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {SERVER_CORE})


def is_there(need: str) -> bool:
    """Whether a Python module, a program, or a file under Node's folder is there."""
    if "/" in need:
        return (NODE / need).exists()
    return shutil.which(need) is not None or importlib.util.find_spec(need) is not None


def uvicorn(app: str, *options: str) -> tuple[str, ...]:
    """uvicorn as it comes, but without pings of its own, which would disturb the count."""
    return (
        *(sys.executable, "-m", "uvicorn", app, "--port", "{port}", "--log-level", "warning", "--backlog", "4096"),
        *("--ws-ping-interval", "3600", "--ws-ping-timeout", "3600", "--loop", "uvloop", *options),
    )


def hypercorn(app: str) -> tuple[str, ...]:
    """hypercorn on uvloop."""
    return (sys.executable, "-m", "hypercorn", "-k", "uvloop", "--bind", "127.0.0.1:{port}", "--backlog", "4096", app)


def granian(app: str) -> tuple[str, ...]:
    """granian on uvloop."""
    return (
        *(sys.executable, "-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--port", "{port}"),
        *("--backlog", "4096", "--no-log", app),
    )


STABILIZED, BARE = "benchmarks.apps.stabilized:app", "benchmarks.apps.bare:app"
GATHER = {"WAY": "gather"}
OTEL = ("opentelemetry.instrumentation.asgi",)
BROADCAST = frozenset({"broadcast"})

EVERYTHING = frozenset({"broadcast", "echo", "rooms", "heartbeat", "command", "http", "sends", "observed"})
OBSERVED = frozenset({"sends", "observed"})

SYSTEMS = [
    System("wsstab", uvicorn(STABILIZED), what=EVERYTHING),
    System("limit: write each", uvicorn("benchmarks.apps.limit:app"), what=BROADCAST),
    System("limit: joined", uvicorn("benchmarks.apps.limit:app"), {"WAY": "joined"}, what=BROADCAST),
    System("Starlette loop", uvicorn(BARE), what=EVERYTHING - {"heartbeat"}),
    System(
        "uvicorn's keepalive",
        uvicorn(BARE, "--ws-ping-interval", "10", "--ws-ping-timeout", "20"),
        what=frozenset({"heartbeat"}),
    ),
    System("Starlette gather", uvicorn(BARE), GATHER, what=frozenset({"broadcast", "rooms"})),
    System(
        "fastapi-websocket-stabilizer",
        uvicorn("benchmarks.apps.stabilizer_1_1:app"),
        needs=("fastapi_websocket_stabilizer",),
        what=frozenset({"broadcast", "echo"}),
    ),
    System(
        "python-socketio",
        uvicorn("benchmarks.apps.socketio_python:app"),
        needs=("socketio",),
        socketio=True,
        what=BROADCAST,
    ),
    System("websockets", (sys.executable, "-m", "benchmarks.apps.websockets_server"), needs=("websockets",)),
    System("picows", (sys.executable, "-m", "benchmarks.apps.picows_server"), needs=("picows",)),
    System("ws (Node)", ("node", "ws.mjs"), needs=("node", "node_modules/ws"), directory=NODE),
    System(
        "socket.io (Node)",
        ("node", "socketio.mjs"),
        needs=("node", "node_modules/socket.io"),
        directory=NODE,
        socketio=True,
        what=BROADCAST,
    ),
    System("Bun", ("node_modules/.bin/bun", "bun.mjs"), needs=("node_modules/.bin/bun",), directory=NODE),
    System("wsstab beneath OpenTelemetry", uvicorn(STABILIZED), {"AROUND": "opentelemetry"}, OTEL, what=OBSERVED),
    System("wsstab beneath Sentry", uvicorn(STABILIZED), {"AROUND": "sentry"}, ("sentry_sdk",), what=OBSERVED),
    System("wsstab beneath middleware", uvicorn(STABILIZED), {"AROUND": "unknown"}, what=frozenset({"sends"})),
    System("Starlette beneath middleware", uvicorn(BARE), {"AROUND": "unknown"}, what=frozenset({"sends"})),
    System("Starlette beneath OpenTelemetry", uvicorn(BARE), {"AROUND": "opentelemetry"}, OTEL, what=OBSERVED),
    System("wsstab on hypercorn", hypercorn(STABILIZED), needs=("hypercorn",), what=EVERYTHING),
    System("gather on hypercorn", hypercorn(BARE), GATHER, needs=("hypercorn",), what=BROADCAST),
    System("wsstab on granian", granian(STABILIZED), needs=("granian",), what=EVERYTHING - {"heartbeat"}),
    System("gather on granian", granian(BARE), GATHER, needs=("granian",), what=BROADCAST),
    System("wsstab asyncio", uvicorn(STABILIZED, "--loop", "asyncio")),
    System("limit: write each asyncio", uvicorn("benchmarks.apps.limit:app", "--loop", "asyncio"), what=BROADCAST),
    System(
        "limit: joined asyncio",
        uvicorn("benchmarks.apps.limit:app", "--loop", "asyncio"),
        {"WAY": "joined"},
        what=BROADCAST,
    ),
]


def versions() -> dict[str, str]:
    """The versions of what is measured, as far as they can be known without starting it."""
    from importlib import metadata

    found = {"python": sys.version.split()[0]}
    for name in ("uvicorn", "uvloop", "starlette", "websockets", "picows", "python-socketio", "hypercorn", "granian"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for name in ("ws", "socket.io", "bun"):
        manifest = NODE / "node_modules" / name / "package.json"
        if manifest.exists():
            found[name] = json.loads(manifest.read_text())["version"]
    return found
