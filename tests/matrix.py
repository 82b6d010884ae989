"""The matrix of the README: which feature works on which server.

``python -m tests.matrix write FILE`` keeps the result that ``pytest --matrix=FILE`` wrote, and
renews the README from it. ``python -m tests.matrix check [FILE]`` fails when the README, the kept result
and the result in FILE disagree.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.recorder import render
from tests.support.server import VARIANTS, Variant

__all__ = ["KEPT", "differences", "main", "readme_with", "table"]

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "matrix.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- matrix: written by `make matrix` -->", "<!-- end of the matrix -->"

Cells = dict[str, dict[str, list[str]]]

SIGNS = {"holds": "✓", "partly": "✓", "lacks": "–", "failed": "**failed**", "missing": "?"}


class Column:
    """Variants of one server whose cells are all the same.

    Args:
        members: the variants.
        whole: whether these are all variants of the server.
    """

    def __init__(self, members: list[Variant], whole: bool) -> None:
        self.members = members
        self.whole = whole

    @property
    def title(self) -> str:
        """The name of the server, and of its variants where the server has several columns."""
        server = self.members[0].server
        return server if self.whole else f"{server} {', '.join(self._names())}"

    def _names(self) -> Iterable[str]:
        """Names of the variants. An implementation with several loops in this column is named once, without loops."""
        loops: dict[str, list[str]] = {}
        for each in self.members:
            loops.setdefault(each.implementation, []).append(each.loop)
        for implementation, members in loops.items():
            own = f"{implementation} " if len(members) == 1 and implementation else implementation
            yield own if implementation and len(members) > 1 else own + "/".join(members)


def columns(rows: Cells) -> list[Column]:
    """The columns of the table, in the order of the variants."""
    found: list[Column] = []
    for server in dict.fromkeys(each.server for each in VARIANTS):
        own = [each for each in VARIANTS if each.server == server]
        groups: dict[str, list[Variant]] = {}
        for each in own:
            groups.setdefault(json.dumps([cells[str(each)] for cells in rows.values()]), []).append(each)
        found += [Column(members, len(groups) == 1) for members in groups.values()]
    return found


def table(result: dict[str, Any]) -> str:
    """The matrix in Markdown, with the reasons numbered below it."""
    rows: Cells = result["rows"]
    shown, reasons = columns(rows), dict[str, int]()
    lines = ["| Behind the middleware | " + " | ".join(column.title for column in shown) + " |"]
    lines.append("|---|" + "---|" * len(shown))
    for title, cells in rows.items():
        signs = [sign_of(cells[str(column.members[0])], reasons) for column in shown]
        lines.append(f"| {title} | " + " | ".join(signs) + " |")
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join([*lines, "", caption(result), *([""] if notes else []), *notes])


def sign_of(cell: list[str], reasons: dict[str, int]) -> str:
    """The sign of a cell, with its reasons as numbers."""
    numbers = [reasons.setdefault(reason, len(reasons) + 1) for reason in cell[1:]]
    return SIGNS[cell[0]] + "".join(f" <sup>{number}</sup>" for number in numbers)


def caption(result: dict[str, Any]) -> str:
    """The line below the table: the versions that were measured, and what the signs mean."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return f"Python {result['python']}; {versions}. ✓ holds (with a number: but for that), – does not."


def readme_with(matrix: str) -> str:
    """The README with this table between its two markers."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{matrix}\n\n{END}{after}"


def differences(kept: Cells, run: Cells) -> list[str]:
    """A line for each cell in which the two results differ."""
    titles = dict.fromkeys([*kept, *run])
    return [
        f"{title} on {variant}: kept is {kept.get(title, {}).get(variant)}, the run gave {run[title].get(variant)}"
        if title in run
        else f"{title} was not run"
        for title in titles
        for variant in map(str, VARIANTS)
        if kept.get(title, {}).get(variant) != run.get(title, {}).get(variant)
    ]


def unsound(rows: Cells) -> list[str]:
    """A line for each cell that has failed or is missing: a result with such a cell must not be kept."""
    return [
        f"{title} on {variant}: {cell[0]}"
        for title, cells in rows.items()
        for variant, cell in cells.items()
        if cell[0] in ("failed", "missing")
    ]


def write(path: Path) -> list[str]:
    """Keep the result of a run and renew the README, unless there are complaints; return the complaints."""
    run = json.loads(path.read_text())
    complaints = unsound(run["rows"])
    if not complaints:
        KEPT.write_text(render(run))
        README.write_text(readme_with(table(run)))
    return complaints


def check(path: Path | None) -> list[str]:
    """Return a complaint for each disagreement between the README, the kept result and a run."""
    kept = json.loads(KEPT.read_text())
    complaints = [] if readme_with(table(kept)) == README.read_text() else ["the README's matrix is not the kept one"]
    return complaints + (differences(kept["rows"], json.loads(path.read_text())["rows"]) if path else [])


def main(what: str, path: str | None = None) -> None:
    """Run ``write`` or ``check``, and exit with its complaints if there are any."""
    complaints = write(Path(path or "")) if what == "write" else check(Path(path) if path else None)
    if complaints:
        sys.exit("\n".join(complaints))


if __name__ == "__main__":
    main(*sys.argv[1:])
