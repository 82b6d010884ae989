"""Events: immutable facts under one base class."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from wsstab import events
from wsstab.close import Cause
from wsstab.errors import ConnectionTimeoutError
from wsstab.events import ConnectionClosed, ConnectionEvent, ConnectionOpened, Event, TokenIssued, TokenUsed

CLASSES: list[Any] = [thing for name in events.__all__ if dataclasses.is_dataclass(thing := getattr(events, name))]


@pytest.mark.parametrize("event_class", CLASSES)
def test_each_event_is_a_frozen_dataclass_below_event(event_class: type[Event]) -> None:
    """A callback on ``Event`` hears all of them, and no callback can change what the next one sees."""
    assert issubclass(event_class, Event)
    event = event_class(**{field.name: "x" for field in dataclasses.fields(event_class)})
    for name in [field.name for field in dataclasses.fields(event_class)]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, name, "y")


@pytest.mark.parametrize("event_class", CLASSES)
def test_each_field_of_an_event_is_documented_where_it_is_defined(event_class: type[Event]) -> None:
    """The docstring of a class names the fields that the class adds to its parent."""
    own = [name for name in vars(event_class).get("__annotations__", {}) if name not in dir(Event)]
    assert event_class.__doc__ is not None
    assert [name for name in own if f"{name}: " not in event_class.__doc__] == []


def test_a_connection_event_begins_with_connection_id_and_client_id() -> None:
    """Exporters read these two fields without knowing the class."""
    connected = [event_class for event_class in CLASSES if issubclass(event_class, ConnectionEvent)]
    assert ConnectionClosed in connected
    for event_class in connected:
        assert [field.name for field in dataclasses.fields(event_class)][:2] == ["connection_id", "client_id"]


def test_no_event_carries_a_token() -> None:
    """Events end up in logs."""
    names = {field.name for event_class in CLASSES for field in dataclasses.fields(event_class)}
    assert not any("token" in name for name in names)


def test_the_error_of_a_closed_connection_is_optional() -> None:
    """Only an error of this package is reported there."""
    closed = ConnectionClosed("c1", "ann", 1000, "", Cause.CLIENT, 1.5)
    assert closed.error is None
    error = ConnectionTimeoutError(1.0)
    assert dataclasses.replace(closed, error=error).error is error


def test_events_are_equal_when_class_and_fields_are() -> None:
    """So tests of applications can compare the events that were heard with those they expect."""
    assert ConnectionOpened("c1", "c1", "/ws", None) == ConnectionOpened("c1", "c1", "/ws", None, subprotocol=None)
    heard: list[Event] = [TokenIssued("ann")]
    assert heard == [TokenIssued("ann")]
    assert heard != [TokenUsed("ann")]
