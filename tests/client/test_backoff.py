"""When a client tries again: bounds, slots, hurry."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from wsstab.client.backoff import Backoff


def delays(backoff: Backoff, times: int) -> Iterable[float | None]:
    """Seconds to the next attempt, after each of so many failures."""
    for _ in range(times):
        backoff.plan(100.0)
        yield None if backoff.due is None else backoff.due - 100.0


def test_each_failure_doubles_the_bound_up_to_the_longest_delay() -> None:
    """Delays are drawn between 0 and the bound."""
    assert list(delays(Backoff(lambda: 1.0, 1.0, 5.0), 5)) == [1, 2, 4, 5, 5]
    assert list(delays(Backoff(lambda: 0.5, 1.0, 5.0), 5)) == [0.5, 1, 2, 2.5, 2.5]
    assert list(delays(Backoff(lambda: 0.0, 1.0, 5.0), 2)) == [0, 0]


def test_a_thousand_failures_are_no_problem() -> None:
    """The bound does not grow beyond what a number can hold."""
    assert list(delays(Backoff(lambda: 1.0), 2000))[-1] == 20


def test_after_a_success_delays_are_short_again() -> None:
    """As at first."""
    backoff = Backoff(lambda: 1.0)
    list(delays(backoff, 5))
    backoff.reset()
    assert list(delays(backoff, 2)) == [0.5, 1]


def test_a_slot_is_exact_and_does_not_count_as_a_failure() -> None:
    """It is in milliseconds."""
    backoff = Backoff(lambda: 0.3)
    backoff.plan(100.0, 1500)
    assert backoff.due == 101.5
    assert list(delays(backoff, 1)) == pytest.approx([0.15])


def test_whoever_has_a_slot_may_not_hurry() -> None:
    """Nor may who has nothing planned."""
    backoff = Backoff(lambda: 1.0)
    assert not backoff.may_hurry()
    backoff.plan(100.0)
    assert backoff.may_hurry()
    backoff.plan(100.0, 0)
    assert not backoff.may_hurry()
    backoff.stop()
    assert backoff.due is None


@pytest.mark.parametrize(("low", "high", "named"), [(0, 1, "min_delay"), (-1, 1, "min_delay"), (2, 1, "max_delay")])
def test_delays_that_make_no_sense_are_refused(low: float, high: float, named: str) -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match=f"^{named}="):
        Backoff(lambda: 1.0, low, high)
