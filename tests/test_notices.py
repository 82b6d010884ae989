"""Notices: warnings that are logged once, and those that strangers can cause, within a budget."""

from __future__ import annotations

import logging

import pytest

from tests.hub.test_door import Entrance
from wsstab.notices import FEW, MOST_KNOWN, MOST_ONCE, WINDOW, Notices


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the notices."""
    made = Clock()
    monkeypatch.setattr("wsstab.notices.monotonic", made)
    return made


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """The lines that were logged since the last call."""
    found = [record.getMessage() for record in caplog.records if record.levelno >= level]
    caplog.clear()
    return found


def test_each_warning_for_the_operator_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """After the first hundred, new ones are left out."""
    notices = Notices()
    for _ in range(2):
        for number in range(MOST_ONCE + 10):
            notices.once(f"key {number}", "warning %s", number)
    assert lines(caplog) == [f"warning {number}" for number in range(MOST_ONCE)]


def test_a_window_logs_few_lines_of_a_kind_and_the_next_begins_with_the_count(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    """A thousand lines in one window do not silence the kind for ever."""
    notices = Notices()
    for number in range(1000):
        notices.of_peers(f"origin {number}", "origin %s", number)
    assert lines(caplog) == [f"origin {number}" for number in range(FEW)]
    clock.now += WINDOW
    notices.of_peers("origin late", "origin %s", "late")
    assert lines(caplog) == [f"! {1000 - FEW} more lines of this kind were left out: origin", "origin late"]


def test_each_kind_of_line_has_a_budget_of_its_own(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """Lines that peers cause do not silence those for the operator either."""
    notices = Notices()
    for number in range(1000):
        notices.of_peers(f"origin {number}", "origin %s", number)
    lines(caplog)
    notices.of_peers("max_message_size /ws", "size")
    notices.once("key", "operator")
    assert lines(caplog) == ["size", "operator"]


def test_a_repeated_line_is_logged_once_and_uses_no_more_budget(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """It counts as repeated while it is among the last thousand."""
    notices = Notices()
    for _ in range(1000):
        notices.of_peers("origin same", "same")
    notices.of_peers("origin other", "other")
    assert lines(caplog) == ["same", "other"]
    for number in range(MOST_KNOWN):
        clock.now += WINDOW
        notices.of_peers(f"origin {number}", "origin %s", number)
    lines(caplog)
    notices.of_peers("origin same", "same")
    assert lines(caplog) == ["same"]
    assert len(notices._known) == MOST_KNOWN


def test_the_count_of_omitted_lines_is_always_logged_at_the_end(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """It is logged once, at the level of the omitted lines."""
    caplog.set_level(logging.INFO, "wsstab")
    notices = Notices()
    told = [notices.may_tell("refused", logging.INFO) for _ in range(FEW + 5)]
    assert told == [True] * FEW + [False] * 5
    notices.tell_left_out(clock.now)
    assert lines(caplog, logging.INFO) == []
    notices.tell_left_out()
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.INFO, "! 5 more lines of this kind were left out: refused")
    caplog.clear()
    notices.tell_left_out()
    assert lines(caplog, logging.INFO) == []


@pytest.mark.anyio
async def test_a_thousand_origins_of_a_stranger_make_few_short_log_lines(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    """A warning about the configuration still reaches the operator."""
    caplog.set_level(logging.INFO, "wsstab")
    at = Entrance(max_connections_per_address=5)
    for number in range(1000):
        await at.knock(path="/" + "p" * 5000, origin=f"https://{number}.example{'x' * 5000}")
    found = lines(caplog, logging.INFO)
    assert len(found) == 2 * FEW
    assert max(map(len, found)) < 600
    assert not any("x" * 101 in line or "p" * 101 in line for line in found)
    await at.guest(client="10.1.2.3")
    assert any("max_connections_per_address counts 10.1.2.3" in line for line in lines(caplog))
    clock.now += WINDOW
    await at.knock(origin="https://later.example")
    later = lines(caplog)
    assert any("left out: origin" in line for line in later)
    assert any("'https://later.example' refused" in line for line in later)


@pytest.mark.anyio
async def test_long_fields_of_a_log_record_are_cut_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """A formatter may write them too."""
    caplog.set_level(logging.INFO, "wsstab")
    await Entrance(allowed_origins=[]).knock(path="/" + "p" * 60_000, origin="https://a.example")
    (record,) = [record for record in caplog.records if record.levelno == logging.INFO]
    assert len(record.__dict__["path"]) <= 103


@pytest.mark.anyio
async def test_an_authorize_that_raises_does_not_flood_the_log(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """Strangers can make it raise, and each line has a traceback."""

    async def authorize(scope: object) -> bool:
        raise KeyError("on purpose")

    at = Entrance(authorize=authorize)
    for _ in range(100):
        await at.knock()
    assert len(lines(caplog, logging.ERROR)) == FEW
