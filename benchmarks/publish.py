"""Puts measured results into the README, with their picture: ``python -m benchmarks.publish``.

It reads ``benchmarks/results.json``, which ``python -m benchmarks ... --json benchmarks/results.json`` writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .picture import picture
from .plan import SCENARIOS
from .report import Result, number
from .targets import TARGETS

__all__ = ["RESULTS", "read", "section"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
PICTURE = ROOT / "docs" / "benchmarks.svg"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
COLUMNS = {"burst": "20 messages in one call", "single": "1 message", "echo": "echo, 50 clients"}
DRAWN = ("burst", "single", "memory-deflate")


def read(path: Path) -> tuple[Mapping[str, Any], list[Result]]:
    """The facts of a file of results (versions, machine), and the results."""
    if not path.exists():
        return {}, []
    facts = json.loads(path.read_text())
    return facts, [Result(each["scenario"], each["system"], each["runs"]) for each in facts.pop("results")]


def section(facts: Mapping[str, Any], results: Sequence[Result]) -> str:
    """What the README shows between its marks."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"Measured on {facts['machine']}, one core for the server and one for the clients, with {versions}.",
        "Medians; in brackets the least and the most. Compare the columns, not the machines.",
        "",
        "![bars of the same figures](docs/benchmarks.svg)",
        "",
        *_systems(results),
        "",
        *_targets(results),
    ]
    return "\n".join(lines)


def _systems(results: Sequence[Result]) -> Iterator[str]:
    by_column = {name: {r.system: r for r in results if r.scenario == SCENARIOS[name].title} for name in COLUMNS}
    systems = list(dict.fromkeys(system for column in by_column.values() for system in column))
    yield "| thousand messages a second | " + " | ".join(COLUMNS.values()) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for system in systems:
        cells = [_thousands(column.get(system)) for column in by_column.values()]
        yield f"| {system} | " + " | ".join(cells) + " |"


def _thousands(result: Result | None) -> str:
    if result is None:
        return ""
    values = [value / 1000 for value in result.values(result.metrics[0])]
    return f"{number(result.median(result.metrics[0]) / 1000)} ({number(min(values))}–{number(max(values))})"


def _targets(results: Sequence[Result]) -> Iterator[str]:
    yield "| | asked | measured | |"
    yield "|---|---|---|---|"
    for target in TARGETS:
        value = target.value(results)
        if value is not None:
            mark = "✓" if target.reached(value) else "missed"
            yield f"| {target.text} | {target.bound} | {number(value)} | {mark} |"


def main() -> None:
    """Write the section of the README and the picture."""
    facts, results = read(RESULTS)
    readme = ROOT / "README.md"
    text = f"{BEGIN}\n{section(facts, results)}\n{END}"
    readme.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: text, readme.read_text(), flags=re.DOTALL))
    drawn = {SCENARIOS[name].title for name in DRAWN}
    PICTURE.write_text(picture([each for each in results if each.scenario in drawn]))


if __name__ == "__main__":
    main()
