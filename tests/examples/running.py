"""The demo in a process of its own, started as its docstring says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from tests.support.waiting import eventually

__all__ = ["RunningDemo"]

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"The chat is at (http://\S+)")


class RunningDemo:
    """``python -m examples``, on the first free port from the given one on.

    Args:
        port: the port at which the search begins.
    """

    def __init__(self, port: int) -> None:
        self._output = tempfile.TemporaryFile("w+b")  # noqa: SIM115
        environment = os.environ | {"PORT": str(port), "PYTHONUNBUFFERED": "1"}
        environment.pop("PYTHONWARNINGS", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> RunningDemo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._output.close()

    @property
    def log(self) -> str:
        """The output so far."""
        return os.pread(self._output.fileno(), 1 << 20, 0).decode()

    @property
    def url(self) -> str:
        """The address in the output, once the application has started."""
        eventually(lambda: "startup complete" in self.log, within=30)
        match = ADDRESS.search(self.log)
        assert match is not None, self.log
        return match[1]

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """Ask it to end with SIGTERM, as a deployment does, and wait for its drain."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
