"""A real server in a process of its own, or of its own processes.

The listening socket is made here and inherited by the server, so the port is known at once and nothing
races for it. For a server that inherits none, such as granian, a socket that is bound but does not listen
reserves the port. What the processes write is kept in a file. ``stop()`` sends SIGTERM, waits, and kills
what is left.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from types import TracebackType
from typing import Any

from tests.support.frames import PING, TEXT
from wsstab.wires.traits import TRAITS, Traits

__all__ = ["DAPHNE", "GRANIAN", "HYPERCORN", "UVICORN", "VARIANTS", "Server", "Variant"]

ROOT = Path(__file__).parents[2]
COMPLAINTS = re.compile(
    r"^.*(?:never retrieved|never awaited|was destroyed but|Exception in callback|Traceback \(most|ResourceWarning).*$",
    re.MULTILINE,
)
"""Lines in the log of a server that report a mistake."""


def complaint(log: str, line: re.Match[str]) -> str:
    """The line, with the error below it if the line begins a traceback."""
    margin, traceback, _ = line[0].partition("Traceback (most")
    if not traceback:
        return line[0]
    margin = margin.replace("+ Exception Group ", "| ")
    error = re.compile(rf"^{re.escape(margin)}(?![\s|+-])\S.*$", re.MULTILINE).search(log, line.end() + 1)
    return line[0] if error is None else f"{line[0]} {error[0].strip(' |')}"


@dataclass(frozen=True)
class Variant:
    """A server, its event loop, and one of its WebSocket implementations where it has several."""

    server: str
    loop: str
    implementation: str = ""

    def __str__(self) -> str:
        return f"{self.implementation.removeprefix('websockets-') or self.server}-{self.loop}"

    @property
    def uvicorn(self) -> bool:
        """Whether it is uvicorn."""
        return self.server == "uvicorn"

    @property
    def sansio(self) -> bool:
        """Whether it is uvicorn's default implementation."""
        return self.implementation == "websockets-sansio"

    @property
    def legacy(self) -> bool:
        """Whether it is uvicorn's deprecated implementation, on the old protocol of the websockets library."""
        return self.implementation == "websockets"

    def status(self, number: int = SIGTERM) -> int:
        """Its exit status when a signal has stopped it: uvicorn raises the signal again, the others do not."""
        return -number if self.uvicorn else 0

    @property
    def drained(self) -> tuple[int, str]:
        """Code and reason with which a drain closes, as they arrive."""
        return 1012, "service restart"

    @property
    def traits(self) -> Traits:
        """What the package knows about this variant."""
        return TRAITS.get(f"{self.server} {self.implementation or self.loop}") or TRAITS[self.server]

    @property
    def heartbeat(self) -> tuple[str, int]:
        """The type of heartbeat that works on it, a ping where it can send one, and the opcode of its frames."""
        return ("ping", PING) if self.traits.native_ping else ("custom", TEXT)


UVICORN = [
    Variant("uvicorn", loop, implementation)
    for implementation in ("websockets-sansio", "wsproto", "websockets")
    for loop in ("asyncio", "uvloop")
]
HYPERCORN = [Variant("hypercorn", loop) for loop in ("asyncio", "uvloop", "trio")]
GRANIAN = [Variant("granian", loop) for loop in ("asyncio", "uvloop")]
DAPHNE = [Variant("daphne", "asyncio")]
VARIANTS = [*UVICORN, *HYPERCORN, *GRANIAN, *DAPHNE]


class Server:
    """One running server.

    Args:
        app: module:attribute of the application.
        variant: which server, implementation and loop.
        options: what the application finds, decoded, under ``tests.support.settings``.
        tls: paths of certificate and key, and the context for clients.
        log_level: uvicorn's own.
        settings: the server's own options, as its class of configuration names them.
        mode: ``eager``, ``debug`` or ``dev``, see `tests.support.serve`; ``WSSTAB_TEST_MODE`` sets it for all servers.
    """

    process: subprocess.Popen[bytes]
    address: tuple[str, int]

    def __init__(
        self,
        app: str,
        variant: Variant,
        options: dict[str, Any] | None = None,
        *,
        tls: tuple[str, str, ssl.SSLContext] | None = None,
        log_level: str = "info",
        settings: dict[str, Any] | None = None,
        mode: str = "",
    ) -> None:
        self.variant = variant
        self.mode = mode or os.environ.get("WSSTAB_TEST_MODE", "")
        self.tls = tls[2] if tls else None
        self.job = {
            "app": app,
            "server": variant.server,
            "implementation": variant.implementation,
            "loop": variant.loop,
            "log_level": log_level,
            "tls": tls[:2] if tls else None,
            "settings": settings or {},
        }
        self.options = options or {}
        self.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """Everything it wrote so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else self.last_words

    @property
    def workers(self) -> list[int]:
        """The processes that serve: its children, where it has some, else itself."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        serving = [pid for pid in children if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return [int(pid) for pid in serving] or [self.process.pid]

    @property
    def rss(self) -> int:
        """Its memory in bytes, as the kernel counts it."""
        status = Path(f"/proc/{self.workers[0]}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(match[1]) * 1024 if match else 0

    @property
    def peak_rss(self) -> int:
        """The most memory it ever had, in bytes."""
        status = Path(f"/proc/{self.workers[0]}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(match[1]) * 1024 if match else 0

    @property
    def sockets(self) -> int:
        """How many sockets it has open, seen from outside because asking it would open one more."""
        names = []
        for link in Path(f"/proc/{self.workers[0]}/fd").iterdir():
            with contextlib.suppress(OSError):
                names.append(str(link.readlink()))
        return sum(name.startswith("socket:") for name in names)

    def get(self, path: str, within: float = 30.0) -> Any:
        """The JSON answer to a GET."""
        return self.request("GET", path, within=within)[1]

    def post(self, path: str, body: Any = None, within: float = 30.0) -> Any:
        """The JSON answer to a POST."""
        return self.request("POST", path, body, within)[1]

    def request(self, method: str, path: str, body: Any = None, within: float = 30.0) -> tuple[int, Any]:
        """Status and decoded body of an HTTP request."""
        connection = self._connection(within)
        try:
            # No superfluous body: a server may have to end the connection because nobody reads it.
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        is_json = "json" in (answer.getheader("Content-Type") or "")
        return answer.status, json.loads(content) if is_json else content.decode()

    def signal(self, number: int = SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def signal_group(self, number: int = SIGTERM) -> None:
        """Send a signal to all of its processes at once, as a terminal and some supervisors do."""
        os.killpg(self.process.pid, number)

    def wait(self, within: float = 10.0) -> int:
        """Wait until it has ended, and return its exit status."""
        return self.process.wait(within)

    def stop(self, within: float = 20.0) -> int:
        """End it; a server that does not end in time is killed, which is a failure.

        Raises:
            AssertionError: it had to be killed.
        """
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self._kill()
            raise AssertionError(f"did not stop within {within:g} s:\n{self.log[-3000:]}") from None
        finally:
            self.last_words = self.log
            self.log_file.unlink(missing_ok=True)

    def start(self) -> None:
        """Start it, on a port of its own, and wait until it answers."""
        handle, name = tempfile.mkstemp(prefix="server-", suffix=".log")
        self.log_file, self.last_words = Path(name), ""
        self.labs = 0
        with socket.socket() as listener:
            if not self.inherits:
                # Bound but not listening, our socket only reserves the port; the server may share it.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            if self.inherits:
                listener.listen(2048)
            self.address = listener.getsockname()
            self.process = self._spawn(listener.fileno(), handle)
            self._wait_until_ready()
        os.close(handle)

    @property
    def inherits(self) -> bool:
        """Whether the server inherits a socket: granian does not, nor does daphne for TLS."""
        return self.variant.server != "granian" and not (self.variant.server == "daphne" and self.tls)

    def revive(self) -> None:
        """Start it again if a test before this one left it frozen or dead."""
        try:
            self.request("GET", "/-/health", within=5.0)
        except OSError:
            self._kill()
            self.log_file.unlink(missing_ok=True)
            self.start()

    def _kill(self) -> None:
        """End it by force, with its stacks in the log."""
        if self.process.poll() is None:
            for pid in self.workers:
                os.kill(pid, signal.SIGUSR1)
            time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def complaints(self, since: int = 0, forgiven: Sequence[str] = ()) -> list[str]:
        """Lines of its log that report a mistake, each traceback with the error that it ends with.

        Args:
            since: position of the log to begin at.
            forgiven: patterns of the complaints that were to be expected.
        """
        log = self.log
        found = [complaint(log, match) for match in COMPLAINTS.finditer(log, since)]
        return [each for each in found if not any(re.search(pattern, each) for pattern in forgiven)]

    def _command(self, listener: int) -> list[str]:
        job = {**self.job, "fd": listener, "port": self.address[1]}
        dev = ["-X", "dev", "-W", "error"] if self.mode == "dev" else []
        return [sys.executable, *dev, "-m", "tests.support.serve", json.dumps(job)]

    def _spawn(self, listener: int, log: int) -> subprocess.Popen[bytes]:
        environment = os.environ | {"WSSTAB_TEST_OPTIONS": json.dumps(self.options), "PYTHONPATH": str(ROOT)}
        environment.pop("PYTHONWARNINGS", None)
        environment["WSSTAB_TEST_MODE"] = self.mode
        if self.mode == "debug":
            environment["PYTHONASYNCIODEBUG"] = "1"
        return subprocess.Popen(
            self._command(listener),
            cwd=ROOT,
            env=environment,
            pass_fds=[listener],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A process group of its own, so that a signal can be sent to all of it.
            start_new_session=True,
        )

    def _wait_until_ready(self, within: float = 30.0) -> None:
        """Wait for the first HTTP answer: a backlog holds our request until the server is up."""
        until = time.monotonic() + within
        while True:
            try:
                # Short requests: a long one would wait for ever in the backlog of a server that has died.
                self.request("GET", "/-/health", within=2.0)
                return
            except OSError as error:
                # We are refused as long as nothing listens.
                if time.monotonic() > until or self.process.poll() is not None:
                    self._kill()
                    raise AssertionError(f"did not start: {error!r}\n{self.log[-3000:]}") from error
                time.sleep(0.05)

    def _connection(self, within: float) -> http.client.HTTPConnection:
        host, port = self.address
        if self.tls is None:
            return http.client.HTTPConnection(host, port, timeout=within)
        return http.client.HTTPSConnection("localhost", port, timeout=within, context=self.tls)
