"""The matrix in the README shows the kept result; the recorder and the table behind it are tested here too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from tests import matrix
from tests.servers.rows import ROWS
from tests.support.recorder import Recorder, cell_of, render
from tests.support.server import VARIANTS

NAMES = [str(each) for each in VARIANTS]


def result_with(**cells: list[str]) -> dict[str, Any]:
    """A result with one row: the named variants (``_`` stands for ``-``) have these cells, the others ``holds``."""
    row = {name: cells.get(name.replace("-", "_"), ["holds"]) for name in NAMES}
    return {"python": "3.13.0", "versions": {"uvicorn": "1.0"}, "rows": {"Echo": row}}


def report(
    outcome: Literal["passed", "failed", "skipped"],
    when: Literal["setup", "call", "teardown"] = "call",
    wasxfail: str | None = None,
    nodeid: str = "a",
) -> Any:
    """A report of a test that belongs to a row."""
    facts = [("row", next(iter(ROWS))), ("variant", NAMES[0])]
    made = pytest.TestReport(nodeid, ("", 0, ""), {}, outcome, None, when, user_properties=facts)
    if wasxfail is not None:
        made.wasxfail = wasxfail
    return made


def first_cell(recorder: Recorder) -> Any:
    """The cell that the reports are about."""
    return recorder.result()["rows"][next(iter(ROWS))][NAMES[0]]


def test_the_readme_shows_the_kept_result() -> None:
    """That result has every row, and each row has a cell for every variant."""
    assert matrix.check(None) == []
    rows = json.loads(matrix.KEPT.read_text())["rows"]
    assert list(rows) == list(ROWS)
    assert all(list(cells) == NAMES for cells in rows.values())
    assert matrix.unsound(rows) == []


@pytest.mark.parametrize(
    ("outcomes", "cell"),
    [
        ([], ["missing"]),
        (["passed", "passed"], ["holds"]),
        (["passed", "no ping"], ["partly", "no ping"]),
        (["no ping", "no abort", "no ping"], ["lacks", "no abort", "no ping"]),
        (["passed", "no ping", "failed"], ["failed"]),
    ],
)
def test_a_cell_sums_up_the_outcomes_of_its_tests(outcomes: list[str], cell: list[str]) -> None:
    """The worst outcome decides, and each reason is listed once."""
    assert cell_of(outcomes) == cell


def test_every_phase_of_a_test_counts_for_its_cell(tmp_path: Path) -> None:
    """A test that fails in its teardown has failed; an expected failure gives its reason."""
    recorder = Recorder(tmp_path / "deep" / "matrix.json")
    assert first_cell(recorder) == ["missing"]
    recorder.pytest_runtest_logreport(report("passed", "setup"))
    recorder.pytest_runtest_logreport(report("passed"))
    assert first_cell(recorder) == ["holds"]
    recorder.pytest_runtest_logreport(report("skipped", wasxfail="no ping", nodeid="b"))
    assert first_cell(recorder) == ["partly", "no ping"]
    recorder.pytest_runtest_logreport(report("failed", "teardown"))
    recorder.pytest_runtest_logreport(report("passed", "teardown"))
    assert first_cell(recorder) == ["failed"]
    recorder.pytest_sessionfinish()
    assert json.loads(recorder.path.read_text())["rows"] == recorder.result()["rows"]


def test_a_skipped_test_counts_as_failed(tmp_path: Path) -> None:
    """The conformance suite skips nothing."""
    recorder = Recorder(tmp_path / "matrix.json")
    recorder.pytest_runtest_logreport(report("skipped", "setup"))
    assert first_cell(recorder) == ["failed"]


def test_variants_of_a_server_with_equal_cells_share_a_column() -> None:
    """Where they differ, the title of each column names its variants."""
    table = matrix.table(result_with())
    assert "| Behind the middleware | uvicorn | hypercorn | granian | daphne |" in table
    assert "| Echo | ✓ | ✓ | ✓ | ✓ |" in table
    table = matrix.table(result_with(hypercorn_trio=["lacks", "why"], wsproto_uvloop=["partly", "so", "why"]))
    assert "| uvicorn websockets-sansio, wsproto asyncio, websockets | uvicorn wsproto uvloop |" in table
    assert "| hypercorn asyncio/uvloop | hypercorn trio |" in table
    assert "✓ <sup>1</sup> <sup>2</sup> | ✓ | – <sup>2</sup> |" in table
    assert table.endswith("1. so\n2. why")


def test_differences_between_two_results_are_listed() -> None:
    """The lines name changed cells, new rows, and rows that were not run."""
    kept, run = result_with()["rows"], result_with(daphne_asyncio=["failed"])["rows"]
    assert matrix.differences(kept, kept) == []
    assert matrix.differences(kept, run) == ["Echo on daphne-asyncio: kept is ['holds'], the run gave ['failed']"]
    assert len(matrix.differences({}, kept)) == len(matrix.differences(kept, {})) == len(NAMES)


def test_a_result_with_failures_is_not_kept(tmp_path: Path) -> None:
    """Nor is a result in which cells are missing."""
    path = tmp_path / "run.json"
    path.write_text(render(result_with(daphne_asyncio=["failed"], granian_uvloop=["missing"])))
    before = matrix.KEPT.read_text() if matrix.KEPT.exists() else None
    assert matrix.write(path) == ["Echo on granian-uvloop: missing", "Echo on daphne-asyncio: failed"]
    assert (matrix.KEPT.read_text() if matrix.KEPT.exists() else None) == before


def test_a_result_survives_rendering_as_json() -> None:
    """Each cell has a line of its own."""
    result = result_with(daphne_asyncio=["lacks", "a “reason”"])
    assert json.loads(render(result)) == result
    assert len(render(result).splitlines()) == 4 + 3 + 3 + len(NAMES)
