"""The README's matrix is the kept result, and what makes it can be trusted."""

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
    """A result of one row; variants whose names are given (with ``_``) have those cells, others hold."""
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
    """And that result has the rows that there are, each with a cell for every variant."""
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
def test_a_cell_is_what_its_tests_showed(outcomes: list[str], cell: list[str]) -> None:
    """The worst counts, and reasons are told once."""
    assert cell_of(outcomes) == cell


def test_each_phase_of_a_test_counts(tmp_path: Path) -> None:
    """What failed in its teardown has failed; what was expected to fail tells why."""
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


def test_a_test_that_was_skipped_has_failed(tmp_path: Path) -> None:
    """Nothing is skipped here."""
    recorder = Recorder(tmp_path / "matrix.json")
    recorder.pytest_runtest_logreport(report("skipped", "setup"))
    assert first_cell(recorder) == ["failed"]


def test_servers_that_agree_have_one_column() -> None:
    """Of those that do not, each part says what it is."""
    table = matrix.table(result_with())
    assert "| Behind the middleware | uvicorn | hypercorn | granian | daphne |" in table
    assert "| Echo | ✓ | ✓ | ✓ | ✓ |" in table
    table = matrix.table(result_with(hypercorn_trio=["lacks", "why"], wsproto_uvloop=["partly", "so", "why"]))
    assert "| uvicorn websockets-sansio, wsproto asyncio, websockets | uvicorn wsproto uvloop |" in table
    assert "| hypercorn asyncio/uvloop | hypercorn trio |" in table
    assert "✓ <sup>1</sup> <sup>2</sup> | ✓ | – <sup>2</sup> |" in table
    assert table.endswith("1. so\n2. why")


def test_differences_are_told() -> None:
    """A cell that changed, a row that is new, a row that was not run."""
    kept, run = result_with()["rows"], result_with(daphne_asyncio=["failed"])["rows"]
    assert matrix.differences(kept, kept) == []
    assert matrix.differences(kept, run) == ["Echo on daphne-asyncio: kept is ['holds'], the run gave ['failed']"]
    assert len(matrix.differences({}, kept)) == len(matrix.differences(kept, {})) == len(NAMES)


def test_a_result_with_failures_is_not_kept(tmp_path: Path) -> None:
    """Nor one of a run that left something out."""
    path = tmp_path / "run.json"
    path.write_text(render(result_with(daphne_asyncio=["failed"], granian_uvloop=["missing"])))
    before = matrix.KEPT.read_text() if matrix.KEPT.exists() else None
    assert matrix.write(path) == ["Echo on granian-uvloop: missing", "Echo on daphne-asyncio: failed"]
    assert (matrix.KEPT.read_text() if matrix.KEPT.exists() else None) == before


def test_what_is_written_is_what_was_found() -> None:
    """JSON, with a line for each cell."""
    result = result_with(daphne_asyncio=["lacks", "a “reason”"])
    assert json.loads(render(result)) == result
    assert len(render(result).splitlines()) == 4 + 3 + 3 + len(NAMES)
