"""The tables of rows and of expected failures refer to tests that exist."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from tests.servers.expected import EXPECTED, LACKS, Expected
from tests.servers.rows import ROWS
from tests.support.catalog import collected
from tests.support.server import VARIANTS
from wsstab.wires.traits import Traits


@pytest.mark.parametrize("title", ROWS)
def test_a_row_is_tested_on_every_variant(title: str) -> None:
    """This holds for each of its patterns, so that no column looks better because fewer tests ran for it."""
    for pattern in ROWS[title]:
        shown = {variant for name, _, variant in collected() if fnmatchcase(name, pattern)}
        assert shown == {str(each) for each in VARIANTS}, pattern


def test_no_test_belongs_to_two_rows() -> None:
    """The failure of such a test would show in only one of the rows."""
    patterns = [pattern for each in ROWS.values() for pattern in each]
    names = {name for name, _, _ in collected()}
    assert [name for name in names if sum(fnmatchcase(name, each) for each in patterns) > 1] == []


def test_each_expected_failure_matches_an_existing_test() -> None:
    """A row that matches no test is outdated or mistyped."""
    by_name = {str(each): each for each in VARIANTS}
    dead = [
        row
        for row in EXPECTED
        if not any(row.applies((name, full), by_name[variant]) for name, full, variant in collected())
    ]
    assert dead == []


@pytest.mark.parametrize("row", EXPECTED, ids=lambda row: row.pattern)
def test_each_expected_failure_has_its_reason(row: Expected) -> None:
    """The reason is given in words, and the field is one of the traits."""
    assert len(row.reason.split()) >= 3
    assert row.lacks is None or row.lacks in Traits.__dataclass_fields__
    assert row.lacks or row.why


def test_each_missing_ability_is_a_boolean_trait() -> None:
    """The traits that ``LACKS`` explains are booleans."""
    assert [name for name in LACKS if not isinstance(getattr(Traits("any"), name), bool)] == []
