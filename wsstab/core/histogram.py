"""Histogram: latencies counted in fixed buckets.

An observation costs one search among the bounds and no memory. Single values are not kept, so a
percentile is known only to its bucket.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import inf, isfinite

from ..reports import Histogram

__all__ = ["BOUNDS", "LatencyHistogram"]

BOUNDS = (
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.002_5,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Seconds: from a broadcast to one peer on the same machine to a mobile network that has just come back."""


class LatencyHistogram:
    """Counts durations in buckets.

    Args:
        bounds: upper bound of each bucket in seconds, ascending and finite.

    Raises:
        ValueError: there are no bounds, or they are not finite and ascending from above 0.
    """

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        edges = (0.0, *bounds, inf)
        # Written so that a NaN, which compares as False, is refused as well.
        if not bounds or not all(low < high for low, high in pairwise(edges)):
            raise ValueError(f"bounds={tuple(bounds)}: must be finite numbers of seconds, ascending from above 0")
        self._bounds = tuple(bounds)
        # One more than there are bounds: the last one counts what is above all of them.
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration.

        Args:
            seconds: the duration. A negative one counts as 0 (a clock may be coarse); one that is not
                finite is ignored, since it would spoil the sum permanently.
        """
        if not isfinite(seconds):
            return
        seconds = max(seconds, 0.0)
        # bisect_left, so that a duration equal to a bound is counted under it, as in Prometheus.
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._total += seconds

    def snapshot(self) -> Histogram:
        """The counts so far, cumulative: each bucket holds the observations at or under its bound."""
        *counts, count = accumulate(self._counts)
        return Histogram(self._bounds, tuple(counts), count, self._total)
