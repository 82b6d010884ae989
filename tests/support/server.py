"""A real uvicorn in a process of its own.

The listening socket is made here and inherited there, so the port is known at
once and nothing races for it. What the process writes is kept in a file.
``stop()`` sends SIGTERM, waits, and kills what is left.
"""

from __future__ import annotations

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
from types import TracebackType
from typing import Any

__all__ = ["VARIANTS", "Server", "Variant"]

ROOT = Path(__file__).parents[2]
COMPLAINTS = re.compile(
    r"^.*(?:never retrieved|never awaited|was destroyed but|Exception in callback|Traceback \(most|ResourceWarning).*$",
    re.MULTILINE,
)
"""What a server says when somebody made a mistake."""


@dataclass(frozen=True)
class Variant:
    """Which of uvicorn's WebSocket implementations runs on which loop."""

    implementation: str
    loop: str

    def __str__(self) -> str:
        return f"{self.implementation.removeprefix('websockets-')}-{self.loop}"

    @property
    def sansio(self) -> bool:
        """Whether it is uvicorn's default implementation."""
        return self.implementation == "websockets-sansio"

    @property
    def legacy(self) -> bool:
        """Whether it is the deprecated one on the websockets library's old protocol."""
        return self.implementation == "websockets"


VARIANTS = [
    Variant(implementation, loop)
    for implementation in ("websockets-sansio", "wsproto", "websockets")
    for loop in ("asyncio", "uvloop")
]


class Server:
    """One running uvicorn.

    Args:
        app: module:attribute of the application.
        variant: implementation and loop.
        options: what the application finds, decoded, under ``tests.support.settings``.
        tls: paths of certificate and key, and the context for clients.
        log_level: uvicorn's own.
        uvicorn: more of uvicorn's options, as ``uvicorn.Config`` takes them.
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
        uvicorn: dict[str, Any] | None = None,
    ) -> None:
        self.variant = variant
        self.tls = tls[2] if tls else None
        settings = {"ws": variant.implementation, "loop": variant.loop, "log_level": log_level, "backlog": 2048}
        settings |= {"ssl_certfile": tls[0], "ssl_keyfile": tls[1]} if tls else {}
        self.job = {"app": app, "uvicorn": settings | (uvicorn or {})}
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
    def rss(self) -> int:
        """Its memory in bytes, as the kernel counts it."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(match[1]) * 1024 if match else 0

    @property
    def peak_rss(self) -> int:
        """The most memory it ever had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(match[1]) * 1024 if match else 0

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
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        is_json = "json" in (answer.getheader("Content-Type") or "")
        return answer.status, json.loads(data) if is_json else data.decode()

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, within: float = 10.0) -> int:
        """Wait until it has ended and give its exit status."""
        return self.process.wait(within)

    def stop(self, within: float = 20.0) -> int:
        """End it; what does not end in time is killed, and that is a failure.

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
        with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
            self.address = listener.getsockname()
            self.process = self._spawn(listener.fileno(), handle)
        os.close(handle)
        self._wait_until_ready()

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
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        self.process.kill()
        self.process.wait()

    def complaints(self, since: int = 0, forgiven: Sequence[str] = ()) -> list[str]:
        """Lines of its log that tell of a mistake.

        Args:
            since: position of the log to begin at.
            forgiven: patterns of what was to be expected.
        """
        found = [match[0] for match in COMPLAINTS.finditer(self.log, since)]
        return [line for line in found if not any(re.search(pattern, line) for pattern in forgiven)]

    def _spawn(self, listener: int, log: int) -> subprocess.Popen[bytes]:
        environment = os.environ | {"WSSTAB_TEST_OPTIONS": json.dumps(self.options), "PYTHONPATH": str(ROOT)}
        environment.pop("PYTHONWARNINGS", None)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.serve", json.dumps({"fd": listener, **self.job})],
            cwd=ROOT,
            env=environment,
            pass_fds=[listener],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def _wait_until_ready(self, within: float = 30.0) -> None:
        """Wait for the first HTTP answer: the backlog holds our request until uvicorn is up."""
        try:
            self.request("GET", "/-/health", within=within)
        except OSError as error:
            self._kill()
            raise AssertionError(f"did not start: {error!r}\n{self.log[-3000:]}") from error

    def _connection(self, within: float) -> http.client.HTTPConnection:
        host, port = self.address
        if self.tls is None:
            return http.client.HTTPConnection(host, port, timeout=within)
        return http.client.HTTPSConnection("localhost", port, timeout=within, context=self.tls)
