"""The latency histogram: its buckets and bounds, and how it treats unusual durations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstab.core.histogram import BOUNDS, LatencyHistogram
from wsstab.reports import Histogram


def test_a_new_histogram_is_all_zeros() -> None:
    """Its snapshot lists the bounds all the same."""
    assert LatencyHistogram([0.1, 1]).snapshot() == Histogram((0.1, 1), (0, 0), 0, 0.0)


def test_counts_are_cumulative_and_bounds_inclusive() -> None:
    """This is what ``le`` means to Prometheus. A duration above the last bound is only in ``count``."""
    histogram = LatencyHistogram([0.1, 1.0])
    for seconds in (0.05, 0.1, 0.5, 1.0, 64.0):
        histogram.observe(seconds)
    snapshot = histogram.snapshot()
    assert (snapshot.counts, snapshot.count) == ((2, 4), 5)
    assert snapshot.total == pytest.approx(65.65)


def test_later_observations_do_not_change_a_snapshot() -> None:
    """A snapshot stays true of the moment it was taken."""
    histogram = LatencyHistogram([1.0])
    before = histogram.snapshot()
    histogram.observe(0.5)
    assert before == Histogram((1.0,), (0,), 0, 0.0)
    assert histogram.snapshot() == Histogram((1.0,), (1,), 1, 0.5)


def test_a_negative_duration_counts_as_zero() -> None:
    """A coarse clock must not reduce the sum."""
    histogram = LatencyHistogram([1.0])
    histogram.observe(-1.0)
    assert histogram.snapshot() == Histogram((1.0,), (1,), 1, 0.0)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf])
def test_a_duration_that_is_not_finite_is_ignored(seconds: float) -> None:
    """One such value would spoil the sum for good."""
    histogram = LatencyHistogram([1.0])
    histogram.observe(seconds)
    assert histogram.snapshot().count == 0


@pytest.mark.parametrize("bounds", [[], [0.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.0, math.inf], [math.nan, 1.0]])
def test_bounds_must_be_positive_finite_and_ascending(bounds: list[float]) -> None:
    """Bounds that cannot be searched are refused when the histogram is made."""
    with pytest.raises(ValueError, match="ascending"):
        LatencyHistogram(bounds)


def test_the_default_bounds_reach_from_50_microseconds_to_30_seconds() -> None:
    """They cover a broadcast on one machine as well as a phone in a tunnel."""
    assert (BOUNDS[0], BOUNDS[-1]) == (0.00005, 30.0)
    assert LatencyHistogram().snapshot().bounds == BOUNDS


@settings(deadline=None)
@given(st.lists(st.floats(0, 100)))
def test_the_counts_equal_a_recount_of_the_durations(durations: list[float]) -> None:
    """Every bucket counts exactly the durations at or below its bound."""
    histogram = LatencyHistogram()
    for seconds in durations:
        histogram.observe(seconds)
    snapshot = histogram.snapshot()
    assert snapshot.counts == tuple(sum(seconds <= bound for seconds in durations) for bound in BOUNDS)
    assert snapshot.count == len(durations)
    assert snapshot.total == pytest.approx(math.fsum(durations))
