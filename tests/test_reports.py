"""Reports: plain data that describe one moment."""

from __future__ import annotations

import dataclasses

import pytest

from wsstab import reports
from wsstab.reports import BroadcastResult, ShutdownReport, Statistics

CLASSES = [thing for name in reports.__all__ if dataclasses.is_dataclass(thing := getattr(reports, name))]


def test_every_public_name_is_a_report() -> None:
    """The module exports nothing else."""
    assert len(CLASSES) == len(reports.__all__)


@pytest.mark.parametrize("report", CLASSES)
def test_a_report_can_be_made_without_arguments_and_is_immutable(report: type) -> None:
    """Test doubles of applications return empty reports."""
    empty = report()
    assert empty == report()
    with pytest.raises(dataclasses.FrozenInstanceError):
        empty.anything = 1


@pytest.mark.parametrize("report", CLASSES)
def test_each_field_of_a_report_is_documented(report: type) -> None:
    """The docstring of the class names it."""
    assert report.__doc__ is not None
    assert [field.name for field in dataclasses.fields(report) if f"{field.name}: " not in report.__doc__] == []


def test_the_published_fields_come_first_and_in_the_published_order() -> None:
    """Applications may pass them by position."""
    result = BroadcastResult(3, 2, 1, [("ann", "gone")])
    assert (result.total, result.succeeded, result.failed, result.errors) == (3, 2, 1, [("ann", "gone")])
    assert (result.queued, result.dropped) == (0, 0)
    report = ShutdownReport(2, 1, 0.5)
    assert (report.closed_count, report.failed_count, report.duration_seconds) == (2, 1, 0.5)


def test_two_empty_reports_share_no_list_and_no_dict() -> None:
    """What is added to one does not appear in another."""
    BroadcastResult().errors.append(("ann", "gone"))
    Statistics().closed[1000] = 1
    assert BroadcastResult().errors == []
    assert Statistics().closed == {}
