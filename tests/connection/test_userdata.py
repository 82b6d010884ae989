"""User data: a read-only mapping for users, whose size in bytes the manager tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstab.connection.userdata import UserData
from wsstab.core.memory import estimate


def put(data: UserData, key: str, value: object) -> int:
    """Set a value as the manager does, and return by how many bytes the data grew."""
    growth, size = data.growth(key, value)
    data.set(key, value, size)
    return growth


def test_user_data_is_a_read_only_mapping() -> None:
    """To users it looks like a dict that cannot be written to."""
    data = UserData()
    put(data, "name", "ann")
    put(data, "age", 7)
    assert isinstance(data, Mapping)
    assert dict(data) == {"name": "ann", "age": 7}
    assert data == {"name": "ann", "age": 7}
    assert (len(data), "name" in data, data.get("none"), list(data)) == (2, True, None, ["name", "age"])
    writable: Any = data
    with pytest.raises(TypeError):
        writable["name"] = "bob"
    with pytest.raises(KeyError):
        data["none"]


def test_empty_user_data_has_size_zero() -> None:
    """Most connections have none, so it must cost nothing."""
    assert (UserData().size, len(UserData())) == (0, 0)


def test_growth_is_known_before_a_value_is_set() -> None:
    """This lets a limit refuse the value."""
    data = UserData()
    growth, size = data.growth("name", "x" * 1000)
    assert growth == size == estimate("name") + estimate("x" * 1000)
    assert (data.size, dict(data)) == (0, {})


def test_replacing_a_value_by_a_smaller_one_gives_bytes_back() -> None:
    """The growth is then negative."""
    data = UserData()
    put(data, "name", "x" * 1000)
    growth = put(data, "name", "x")
    assert growth == estimate("x") - estimate("x" * 1000) < 0
    assert data.size == estimate("name") + estimate("x")


def test_recount_notices_a_value_that_changed_in_place() -> None:
    """The size was estimated when the value was set."""
    data, values = UserData(), list[str]()
    put(data, "values", values)
    before = data.size
    values.extend(["a text of some length"] * 100 + ["another"])
    grown = data.recount()
    assert grown == estimate(values) - estimate([]) > 0
    assert data.size == before + grown
    values.clear()
    assert data.recount() < 0


def test_a_value_set_during_a_recount_keeps_its_new_estimate() -> None:
    """The new estimate is the more recent one; changes of other values are still found."""
    data, values, others = UserData(), ["a"] * 10, list[str]()
    put(data, "values", values)
    put(data, "others", others)
    others.append("a text of some length")
    steps = data.recounting(2)
    assert next(steps) == 0
    values.append("grown")
    put(data, "values", "replaced")
    put(data, "new", "later")
    size = data.size
    assert sum(steps) == estimate(others) - estimate([]) == data.size - size


def test_repr_shows_the_size_and_no_values() -> None:
    """Applications may keep secrets there."""
    data = UserData()
    put(data, "password", "hunter2")
    assert repr(data) == f"<UserData [1 values, {data.size} bytes]>"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=50) | st.lists(st.integers(), max_size=9))))
def test_the_size_is_always_the_sum_of_keys_and_values(changes: list[tuple[str, object]]) -> None:
    """The growths add up to it, whichever values were overwritten."""
    data, kept = UserData(), dict[str, object]()
    grown = sum(put(data, key, value) for key, value in changes)
    kept.update(changes)
    assert dict(data) == kept
    assert data.size == grown == sum(estimate(key) + estimate(value) for key, value in kept.items())
    assert data.recount() == 0
