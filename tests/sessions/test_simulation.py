"""The promises of wsstab.v1 hold over a network that hurts, and each rule is needed for one of them."""

from __future__ import annotations

import pytest

from tests.sessions.simulation import RULES, first_violation, simulation

SCHEDULES = 2500
"""Schedules of each test; together there are 30,000."""
MUTANTS = 5000
"""Schedules within which a missing rule is noticed."""


@pytest.mark.parametrize("first", range(0, 30_000, SCHEDULES))
def test_every_schedule_keeps_the_promises(first: int) -> None:
    """A seed that is found here repeats itself: run ``simulation(seed, tracing=True).run()``."""
    assert first_violation(first, SCHEDULES) is None


@pytest.mark.parametrize("rule", RULES)
def test_without_one_of_the_rules_a_promise_is_broken(rule: str) -> None:
    """Otherwise the rule would not be needed, or the simulation would be blind to it."""
    assert first_violation(0, MUTANTS, (rule,)) is not None


def test_a_seed_is_a_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed leads to the same steps."""
    traces = []
    for _ in range(2):
        simulation(7, tracing=True).run()
        traces.append(capsys.readouterr().out)
    assert traces[0] == traces[1] != ""
