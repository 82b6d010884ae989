"""Servers full of compositions.

A server's process has many compositions, each bare and wrapped, and answers many questions: the tests
of one process run one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.composition.case import HOUSES, Asked, Case, House
from tests.composition.rows import SERVERS
from tests.support.server import Server

SETTINGS = {"hypercorn": {"graceful_timeout": 0.5}}
"""Settings with which a server stops soon even if bare handlers never learn that their peer has gone."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests that have a house by their house, within the places that they occupy."""
    own = [item for item in items if asked_of(item) is not None]
    places = [place for place, item in enumerate(items) if asked_of(item) is not None]
    # The tests of traces come first: a handler of an earlier test may end late, and so may its span.
    own.sort(key=lambda item: (HOUSES.index(asked_of(item).house), item.path.name != "test_tracing.py"))  # type: ignore[union-attr]
    for place, item in zip(places, own, strict=True):
        items[place] = item
    for item in own:
        mark(item, asked_of(item))
    for item in items:
        if item.path.name == "test_nicegui.py":
            item.user_properties += [("composition", "nicegui inside"), ("variant", str(SERVERS[0]))]


def mark(item: pytest.Item, asked: Asked | None) -> None:
    """Make the reports of a test name its composition and its server."""
    if asked is not None:
        item.user_properties += [
            ("composition", f"{asked.row.name} {asked.place}"),
            ("variant", str(asked.house.variant)),
        ]


def asked_of(item: pytest.Item) -> Asked | None:
    """The composition that a test is about, if it has one."""
    callspec = getattr(item, "callspec", None)
    asked = None if callspec is None else callspec.params.get("asked")
    return asked if isinstance(asked, Asked) else None


@pytest.fixture(scope="session")
def house(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server of a `House`; pytest keeps it while the next test has the same object."""
    wanted: House = request.param
    options, settings = {"process": wanted.process}, SETTINGS.get(wanted.variant.server)
    with Server("tests.composition.apps.house:app", wanted.variant, options, settings=settings) as running:
        yield running


@pytest.fixture
def case(house: Server, asked: Asked) -> Iterator[Case]:
    """A composition at a place, in its server."""
    house.revive()
    with Case(house, asked) as made:
        yield made
