"""A check: the values it keeps, and the error text for those it refuses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from wsstab.config.check import Check, Refused, optional, published, require


def accept(value: Any) -> Any:
    """Accept numbers above 0."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    require(isinstance(value, (int, float)), "give a number")
    require(value > 0)
    return float(value)


POSITIVE = Check("a number above 0", accept, parse=float, positive=True)


def test_an_allowed_value_is_converted_and_kept() -> None:
    """A text from the environment is parsed first."""
    assert POSITIVE("size", 5) == POSITIVE.read("SIZE", " 5 ") == 5.0


def test_the_error_names_the_option_its_value_and_what_is_allowed() -> None:
    """It also gives the reason, where the check knows one."""
    with pytest.raises(ValueError, match=r"^size='x': must be a number above 0; give a number$"):
        POSITIVE("size", "x")


@pytest.mark.parametrize("value", [0, -1.5, timedelta(0)])
def test_a_number_that_is_not_positive_gets_the_published_error_text(value: Any) -> None:
    """Tests of existing users match that text."""
    with pytest.raises(ValueError, match=r"^size must be positive: size="):
        POSITIVE("size", value)


@pytest.mark.parametrize(("positive", "value", "told"), [(False, "x", True), (True, "x", False), (True, -1, True)])
def test_the_published_error_text_comes_first(positive: bool, value: Any, told: bool) -> None:
    """It applies to every value that is refused, or only to numbers that are not positive."""
    with pytest.raises(ValueError, match="^size must be large: " if told else "^size='x': must be"):
        published(POSITIVE, "must be large", positive=positive)("size", value)


def test_the_error_for_a_secret_shows_neither_its_value_nor_the_reason() -> None:
    """Errors end up in logs."""

    def refuse(value: Any) -> Any:
        raise Refused(f"{value} is too short")

    with pytest.raises(ValueError, match=r"^secret=<not shown>: must be long$"):
        Check("long", refuse, shown=False)("secret", "hunter2")


def test_a_check_that_is_not_readable_refuses_every_text() -> None:
    """An environment variable cannot contain a function, for example."""
    with pytest.raises(ValueError, match=r"^HOOK='x': must be a function$"):
        Check("a function", accept, readable=False).read("HOOK", "x")


@pytest.mark.parametrize(("text", "kept"), [("", None), ("None", None), ("5", 5.0)])
def test_an_optional_check_also_accepts_none(text: str, kept: float | None) -> None:
    """An empty environment variable counts as ``None``."""
    check = optional(POSITIVE, "no limit")
    assert check.read("SIZE", text) == kept
    assert check("size", kept) == kept
    with pytest.raises(ValueError, match=r"must be a number above 0; or None for no limit"):
        check("size", "x")
