"""What was measured: medians with the least and the most, and the ratio to wsstab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["Result", "table"]

OURS = "wsstab"


@dataclass(frozen=True)
class Result:
    """All runs of one system in one scenario.

    Args:
        scenario: the title of the scenario.
        system: the name of the system.
        runs: what each run measured, by name with unit.
    """

    scenario: str
    system: str
    runs: Sequence[Mapping[str, float]]

    @property
    def metrics(self) -> list[str]:
        """The names of what was measured."""
        return list(self.runs[0])

    def values(self, metric: str) -> list[float]:
        """One metric of all runs."""
        return [run[metric] for run in self.runs]

    def median(self, metric: str) -> float:
        """The median of all runs."""
        return median(self.values(metric))

    def as_json(self) -> dict[str, Any]:
        """The result as the file has it."""
        return {"scenario": self.scenario, "system": self.system, "runs": [dict(run) for run in self.runs]}


def table(results: Sequence[Result], ours: str = OURS) -> str:
    """The results of one scenario as a table of text; the last column is the first metric over ours."""
    metrics = results[0].metrics
    head = ["", *metrics, f"÷ {ours}"]
    base = next((result.median(metrics[0]) for result in results if result.system == ours), None)
    rows = [head]
    for result in results:
        ratio = f"{result.median(metrics[0]) / base:.2f}" if base else ""
        rows.append([result.system, *(cell(result.values(metric)) for metric in metrics), ratio])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(aligned(row, widths)) for row in rows]
    return "\n".join([results[0].scenario, *lines])


def cell(values: Sequence[float]) -> str:
    """The median, with the least and the most."""
    return f"{number(median(values))} ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    """A number with as many digits as are significant."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The name to the left, the figures to the right."""
    name, *figures = row
    return [name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(figures, widths[1:], strict=True))]
