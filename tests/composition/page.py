"""The page ``docs/composition.md`` about what holds in which composition, made from results.

``python -m tests.composition.page write FILE`` takes over what a run wrote (``pytest --composition=FILE``)
and renews the page; ``python -m tests.composition.page check [FILE]`` fails when the page, the kept result and
that run do not agree.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.composition.recorder import keys
from tests.composition.rows import PLAIN, SERVERS
from tests.support.recorder import render

__all__ = ["KEPT", "PAGE", "check", "main", "page_of", "table", "unsound"]

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "composition.json"
PAGE = ROOT / "docs" / "composition.md"
BEGIN, END = "<!-- compositions: written by `make composition` -->", "<!-- end of the compositions -->"

Cells = dict[str, dict[str, list[str]]]

SIGNS = {"holds": "✓", "partly": "✓", "lacks": "–", "never": "–", "failed": "**failed**", "missing": "?"}
COLUMNS = [each.server if each.server != "hypercorn" else f"hypercorn {each.loop}" for each in SERVERS]


def table(result: dict[str, Any]) -> str:
    """The compositions in Markdown, with the reasons numbered below."""
    reasons: dict[str, int] = {}
    lines = ["| Package | Place | " + " | ".join(COLUMNS) + " |", "|---|---|" + "---|" * len(SERVERS)]
    for key, (row, place) in keys().items():
        cells = result["rows"][key]
        signs = [sign_of(cells[str(variant)], row.wire(place) == PLAIN, reasons) for variant in SERVERS]
        lines.append(f"| {row.title} | {place} | " + " | ".join(signs) + " |")
    notes = [f"{number}. {reason[:1].upper()}{reason[1:]}." for reason, number in reasons.items()]
    return "\n".join([*lines, "", *notes, "", told(result)])


def sign_of(cell: list[str], plain: bool, reasons: dict[str, int]) -> str:
    """A cell, its reasons as numbers."""
    numbers = [reasons.setdefault(reason, len(reasons) + 1) for reason in cell[1:]]
    sign = "plain" if plain and cell[0] in ("holds", "partly") else SIGNS[cell[0]]
    return sign + "".join(f" <sup>{number}</sup>" for number in numbers)


def told(result: dict[str, Any]) -> str:
    """The versions with which it was tried."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return f"Python {result['python']}; {versions}."


def page_of(result: dict[str, Any]) -> str:
    """The page with this table between its marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(result)}\n\n{END}{after}"


def differences(kept: Cells, run: Cells) -> list[str]:
    """Cells in which two results differ, in words."""
    return [
        f"{key} on {variant}: kept is {kept.get(key, {}).get(variant)}, the run gave {run.get(key, {}).get(variant)}"
        for key in dict.fromkeys([*kept, *run])
        for variant in map(str, SERVERS)
        if kept.get(key, {}).get(variant) != run.get(key, {}).get(variant)
    ]


def unsound(rows: Cells) -> list[str]:
    """Cells that a result must not have if it is to be kept."""
    return [
        f"{key} on {variant}: {cell[0]}"
        for key, cells in rows.items()
        for variant, cell in cells.items()
        if cell[0] in ("failed", "missing")
    ]


def write(path: Path) -> list[str]:
    """Keep a run's result and renew the page, or return what is wrong with the run."""
    run = json.loads(path.read_text())
    complaints = unsound(run["rows"])
    if not complaints:
        KEPT.write_text(render(run))
        PAGE.write_text(page_of(run))
    return complaints


def check(path: Path | None) -> list[str]:
    """Where the page, the kept result and the run disagree."""
    kept = json.loads(KEPT.read_text())
    complaints = [] if page_of(kept) == PAGE.read_text() else ["the page does not show the kept result"]
    return complaints + (differences(kept["rows"], json.loads(path.read_text())["rows"]) if path else [])


def main(what: str, path: str | None = None) -> None:
    """Write or check, and fail with what is wrong."""
    complaints = write(Path(path or "")) if what == "write" else check(Path(path) if path else None)
    if complaints:
        sys.exit("\n".join(complaints))


if __name__ == "__main__":
    main(*sys.argv[1:])
