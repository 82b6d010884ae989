"""The histogram: buckets, bounds, and what it makes of odd numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstab.core.histogram import BOUNDS, LatencyHistogram
from wsstab.reports import Histogram


def test_nothing_observed_is_all_zero() -> None:
    """The bounds show even so."""
    assert LatencyHistogram([0.1, 1]).snapshot() == Histogram((0.1, 1), (0, 0), 0, 0.0)


def test_counts_are_cumulative_and_bounds_inclusive() -> None:
    """As Prometheus reads ``le``: at the bound is under it, and above the last one is only in the count."""
    histogram = LatencyHistogram([0.1, 1.0])
    for seconds in (0.05, 0.1, 0.5, 1.0, 64.0):
        histogram.observe(seconds)
    snapshot = histogram.snapshot()
    assert (snapshot.counts, snapshot.count) == ((2, 4), 5)
    assert snapshot.total == pytest.approx(65.65)


def test_a_snapshot_does_not_change_any_more() -> None:
    """What was told stays true of its moment."""
    histogram = LatencyHistogram([1.0])
    before = histogram.snapshot()
    histogram.observe(0.5)
    assert before == Histogram((1.0,), (0,), 0, 0.0)
    assert histogram.snapshot() == Histogram((1.0,), (1,), 1, 0.5)


def test_a_negative_duration_counts_as_none() -> None:
    """A coarse clock must not make the sum smaller."""
    histogram = LatencyHistogram([1.0])
    histogram.observe(-1.0)
    assert histogram.snapshot() == Histogram((1.0,), (1,), 1, 0.0)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_ignored(seconds: float) -> None:
    """One such value would spoil the sum for good."""
    histogram = LatencyHistogram([1.0])
    histogram.observe(seconds)
    assert histogram.snapshot().count == 0


@pytest.mark.parametrize("bounds", [[], [0.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.0, math.inf], [math.nan, 1.0]])
def test_bounds_must_ascend(bounds: list[float]) -> None:
    """A table that cannot be searched is refused when it is made."""
    with pytest.raises(ValueError, match="ascending"):
        LatencyHistogram(bounds)


def test_the_default_bounds_reach_from_50_microseconds_to_30_seconds() -> None:
    """They cover a broadcast on one machine as well as a phone in a tunnel."""
    assert (BOUNDS[0], BOUNDS[-1]) == (0.00005, 30.0)
    assert LatencyHistogram().snapshot().bounds == BOUNDS


@settings(deadline=None)
@given(st.lists(st.floats(0, 100)))
def test_counts_equal_a_recount(durations: list[float]) -> None:
    """Every bucket holds exactly what lies at or under its bound."""
    histogram = LatencyHistogram()
    for seconds in durations:
        histogram.observe(seconds)
    snapshot = histogram.snapshot()
    assert snapshot.counts == tuple(sum(seconds <= bound for seconds in durations) for bound in BOUNDS)
    assert snapshot.count == len(durations)
    assert snapshot.total == pytest.approx(math.fsum(durations))
