"""The tables about the tests speak of tests that there are."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from tests.servers.expected import EXPECTED, LACKS, Expected
from tests.servers.rows import ROWS
from tests.support.catalog import collected
from tests.support.server import VARIANTS
from wsstab.wires.traits import Traits


@pytest.mark.parametrize("title", ROWS)
def test_a_row_is_shown_on_every_variant(title: str) -> None:
    """By each of its patterns, so that no column is better for having been asked less."""
    for pattern in ROWS[title]:
        shown = {variant for name, _, variant in collected() if fnmatchcase(name, pattern)}
        assert shown == {str(each) for each in VARIANTS}, pattern


def test_no_test_belongs_to_two_rows() -> None:
    """Its failure would show in one of them only."""
    patterns = [pattern for each in ROWS.values() for pattern in each]
    names = {name for name, _, _ in collected()}
    assert [name for name in names if sum(fnmatchcase(name, each) for each in patterns) > 1] == []


def test_each_expected_failure_is_of_a_test_that_there_is() -> None:
    """A row that matches nothing is forgotten, or has a typing error."""
    by_name = {str(each): each for each in VARIANTS}
    dead = [
        row
        for row in EXPECTED
        if not any(row.applies((name, full), by_name[variant]) for name, full, variant in collected())
    ]
    assert dead == []


@pytest.mark.parametrize("row", EXPECTED, ids=lambda row: row.pattern)
def test_each_expected_failure_has_its_reason(row: Expected) -> None:
    """In words; its field is one of the traits."""
    assert len(row.reason.split()) >= 3
    assert row.lacks is None or row.lacks in Traits.__dataclass_fields__
    assert row.lacks or row.why


def test_each_lack_is_a_trait() -> None:
    """The words are about fields that are true or false."""
    assert [name for name in LACKS if not isinstance(getattr(Traits("any"), name), bool)] == []
