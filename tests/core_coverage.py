"""Measures each machine of ``core/`` by its own test file: ``python -m tests.core_coverage [wheel queue ...]``.

A machine that is covered only by the tests of other modules has not been thought through. The run fails when the
test file of a machine misses one of its branches.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
AT_ONCE = os.cpu_count() or 1
"""How many machines are measured at the same time."""


class Measurement:
    """One machine, tested by its own file in a process of its own.

    Args:
        machine: name of the module in ``core/``.
        folder: where the data is kept.
    """

    def __init__(self, machine: str, folder: Path) -> None:
        self.machine = machine
        self._data = folder / machine / "data"
        self._data.parent.mkdir()
        self._environment = os.environ | {"COVERAGE_FILE": str(self._data)}
        self._environment.pop("COVERAGE_PROCESS_START", None)
        test = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/core/test_{machine}.py"]
        self._tests = self._start("run", "--branch", f"--source=wsstab.core.{machine}", *test)

    def finish(self) -> bool:
        """Wait for the measurement, print its result, and return whether every branch was covered."""
        output, _ = self._tests.communicate()
        if not self._data.exists():
            # With ``parallel`` in the configuration, coverage writes its data in parts.
            self._start("combine", str(self._data.parent)).communicate()
        report, _ = (measured := self._start("report", "--show-missing", "--fail-under=100")).communicate()
        complete = self._tests.returncode == measured.returncode == 0
        print(f"{'ok  ' if complete else 'FAIL'} core/{self.machine}.py {total(report)}", flush=True)
        if not complete:
            print(output if self._tests.returncode else report, flush=True)
        return complete

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "coverage", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


def total(report: str) -> str:
    """The last column of the TOTAL line: the percentage."""
    lines = [line.split()[-1] for line in report.splitlines() if line.startswith("TOTAL")]
    return lines[0] if lines else "not measured"


def machines() -> list[str]:
    """The modules in ``core/``."""
    return sorted(path.stem for path in (ROOT / "wsstab" / "core").glob("*.py") if path.stem != "__init__")


def main(names: Sequence[str]) -> int:
    """Measure the named machines, or all of them, and return the exit status."""
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = list(names) or machines()
        for start in range(0, len(chosen), AT_ONCE):
            batch = [Measurement(machine, Path(folder)) for machine in chosen[start : start + AT_ONCE]]
            missed.extend(each.machine for each in batch if not each.finish())
    print(f"missed: {', '.join(missed)}" if missed else "every machine is covered by its own test file")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
