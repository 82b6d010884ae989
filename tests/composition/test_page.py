"""The page of the compositions shows the kept result, and the table is sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.composition import page
from tests.composition.recorder import CompositionRecorder, keys
from tests.composition.rows import ROWS, SERVERS

NAMES = [str(each) for each in SERVERS]


def result_with(cell: list[str]) -> dict[str, Any]:
    """A result in which every cell is the same."""
    return {
        "python": "3.13.0",
        "versions": {"uvicorn": "1.0"},
        "rows": {key: dict.fromkeys(NAMES, cell) for key in keys()},
    }


def test_the_page_shows_the_kept_result() -> None:
    """The kept result has all the compositions, each with a cell for every server."""
    assert page.check(None) == []
    rows = json.loads(page.KEPT.read_text())["rows"]
    assert list(rows) == list(keys())
    assert all(list(cells) == NAMES for cells in rows.values())
    assert page.unsound(rows) == []


def test_each_composition_has_its_line() -> None:
    """It has one for each of its places, which says where the wire is plain ASGI."""
    table = page.table(result_with(["holds"]))
    for row in ROWS:
        for place in row.places:
            sign = "plain" if place in row.plain else "✓"
            assert f"| {row.title} | {place} | {' | '.join([sign] * len(NAMES))} |" in table


def test_reasons_are_numbered_and_written_once() -> None:
    """They get a capital letter and a full stop."""
    table = page.table(result_with(["partly", "so it is"]))
    assert "✓ <sup>1</sup> | ✓ <sup>1</sup>" in table
    assert table.count("So it is.") == 1
    assert "– <sup>1</sup>" in page.table(result_with(["never", "why"]))


def test_differences_are_reported() -> None:
    """Each cell in which two results differ is one."""
    kept, run = result_with(["holds"])["rows"], result_with(["lacks", "why"])["rows"]
    assert page.differences(kept, kept) == []
    assert len(page.differences(kept, run)) == len(keys()) * len(NAMES)
    assert "kept is ['holds'], the run gave ['lacks', 'why']" in page.differences(kept, run)[0]


@pytest.mark.parametrize("cell", ["failed", "missing"])
def test_a_result_with_failures_is_not_kept(tmp_path: Path, cell: str) -> None:
    """Neither is the result of a run that left something out."""
    path, before = tmp_path / "run.json", page.KEPT.read_text()
    path.write_text(json.dumps(result_with([cell])))
    assert len(page.write(path)) == len(keys()) * len(NAMES)
    assert page.KEPT.read_text() == before


def test_cells_without_tests_are_missing_unless_the_row_never_runs_there(tmp_path: Path) -> None:
    """A composition that does not run on a server by itself has its reason without a test."""
    recorder = CompositionRecorder(tmp_path / "composition.json")
    cells = recorder.result()["rows"]["quart inside"]
    assert cells["sansio-uvloop"] == ["missing"]
    assert cells["hypercorn-trio"] == ["never", "it runs on asyncio only"]
    facts = [("composition", "quart inside"), ("variant", "sansio-uvloop")]
    recorder.pytest_runtest_logreport(
        pytest.TestReport("a", ("", 0, ""), {}, "passed", None, "call", user_properties=facts)
    )
    assert recorder.result()["rows"]["quart inside"]["sansio-uvloop"] == ["holds"]


def test_the_names_of_compositions_are_unique() -> None:
    """They are parts of paths."""
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
