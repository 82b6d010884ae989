"""Writes what a run of the conformance suite showed: ``pytest --matrix=FILE``.

Each row has a cell for each variant, a list: ``holds``, ``partly`` or ``lacks`` with the reasons for
which tests were expected to fail, ``failed``, or ``missing`` where no test ran. Under pytest-xdist
the workers report to the process that writes.
"""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.servers.rows import ROWS, row_of
from tests.support.server import VARIANTS

__all__ = ["SERVERS", "Recorder", "cell_of", "mark", "render"]

SERVERS = ("uvicorn", "websockets", "wsproto", "hypercorn", "granian", "daphne", "autobahn")
"""The packages whose versions a result names."""

PASSED, FAILED = "passed", "failed"


class Recorder:
    """Collects the outcomes of a run.

    Args:
        path: the file to write when the run has ended.
    """

    fact = "row"
    """The property of a test's report that names what it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the worst of a test's three phases: passed, the reason for an expected failure, or failed."""
        facts = dict(report.user_properties)
        if self.fact not in facts:
            return
        cell = self.outcomes[str(facts[self.fact]), str(facts["variant"])]
        cell[report.nodeid] = self.worse(cell.get(report.nodeid, PASSED), outcome_of(report))

    @staticmethod
    def worse(known: str, now: str) -> str:
        """The worse of two outcomes: a failure, else a reason, else passed."""
        return known if known == FAILED or now == PASSED else now

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(render(self.result()))

    def result(self) -> dict[str, Any]:
        """The result that is written."""
        rows = {
            title: {str(each): cell_of(list(self.outcomes[title, str(each)].values())) for each in VARIANTS}
            for title in ROWS
        }
        return {
            "python": platform.python_version(),
            "versions": {name: version(name) for name in SERVERS},
            "rows": rows,
        }


def outcome_of(report: pytest.TestReport) -> str:
    """The outcome of one phase: passed, failed, or the reason why it was expected to fail."""
    if report.failed:
        return FAILED
    if not report.skipped:
        return PASSED
    return str(getattr(report, "wasxfail", FAILED))


def cell_of(outcomes: list[str]) -> list[str]:
    """The cell for the outcomes of a row on one variant."""
    if not outcomes:
        return ["missing"]
    if FAILED in outcomes:
        return ["failed"]
    reasons = sorted({each for each in outcomes if each != PASSED})
    return [("partly" if PASSED in outcomes else "lacks") if reasons else "holds", *reasons]


def render(result: dict[str, Any]) -> str:
    """JSON with a line for each cell."""
    text = json.dumps({**result, "rows": {}}, indent=2, ensure_ascii=False)
    rows = ",\n".join(
        f"    {json.dumps(title, ensure_ascii=False)}: {{\n"
        + ",\n".join(f"      {json.dumps(key)}: {json.dumps(cell, ensure_ascii=False)}" for key, cell in cells.items())
        + "\n    }"
        for title, cells in result["rows"].items()
    )
    return text.replace('"rows": {}', f'"rows": {{\n{rows}\n  }}') + "\n"


def mark(item: pytest.Item, name: str, variant: str) -> None:
    """Make the reports of a test name its row and its variant."""
    row = row_of(name)
    if row is not None:
        item.user_properties += [("row", row), ("variant", variant)]
