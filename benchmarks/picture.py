"""The results as bars: one group for each scenario, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .report import Result, number

__all__ = ["picture"]

WIDTH, BAR, GAP, LABEL, FIGURE = 860, 16, 5, 220, 110
OURS, OTHERS, LIMIT = "#2563eb", "#94a3b8", "#d4d4d8"


def picture(results: Sequence[Result]) -> str:
    """An SVG of the first metric of each scenario, the best first."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.scenario, []).append(result)
    y, body = 10, list[str]()
    for title, group in groups.items():
        metric = group[0].metrics[0]
        y += 18
        body.append(f'<text x="10" y="{y}" class="title">{escape(title)}, {escape(metric)}</text>')
        y += 8
        values = {result.system: result.median(metric) for result in group}
        least, most = min(values.values()) / 2, max(values.values())
        for system, value in sorted(values.items(), key=lambda pair: -pair[1]):
            span = math.log(value / least) / math.log(most / least) if most > least > 0 else 1.0
            width = max(span * (WIDTH - LABEL - FIGURE), 1)
            color = OURS if system.startswith("wsstab") else LIMIT if system.startswith("limit") else OTHERS
            body.append(f'<text x="{LABEL - 8}" y="{y + BAR - 4}" class="name">{escape(system)}</text>')
            body.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{color}"/>')
            body.append(f'<text x="{LABEL + width + 6:.1f}" y="{y + BAR - 4}">{number(value)}</text>')
            y += BAR + GAP
        y += 12
    style = "text{font:12px sans-serif;fill:#334155}.title{font-weight:bold}.name{text-anchor:end}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="white"/>{"".join(body)}</svg>\n'
    )
