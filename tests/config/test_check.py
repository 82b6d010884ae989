"""A check: what it keeps, and the sentence of what it refuses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from wsstab.config.check import Check, Refused, optional, published, require


def accept(value: Any) -> Any:
    """Numbers above 0."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    require(isinstance(value, (int, float)), "give a number")
    require(value > 0)
    return float(value)


POSITIVE = Check("a number above 0", accept, parse=float, positive=True)


def test_what_is_allowed_is_kept() -> None:
    """As the check keeps it."""
    assert POSITIVE("size", 5) == POSITIVE.read("SIZE", " 5 ") == 5.0


def test_what_is_refused_is_named_with_what_is_allowed() -> None:
    """And with why, where that is plain."""
    with pytest.raises(ValueError, match=r"^size='x': must be a number above 0; give a number$"):
        POSITIVE("size", "x")


@pytest.mark.parametrize("value", [0, -1.5, timedelta(0)])
def test_a_number_that_is_not_positive_is_told_in_the_published_words(value: Any) -> None:
    """Tests were written for them."""
    with pytest.raises(ValueError, match=r"^size must be positive: size="):
        POSITIVE("size", value)


@pytest.mark.parametrize(("positive", "value", "told"), [(False, "x", True), (True, "x", False), (True, -1, True)])
def test_words_that_were_published_come_first(positive: bool, value: Any, told: bool) -> None:
    """For all that is refused, or for numbers alone."""
    with pytest.raises(ValueError, match="^size must be large: " if told else "^size='x': must be"):
        published(POSITIVE, "must be large", positive=positive)("size", value)


def test_a_secret_is_not_shown_and_neither_is_why() -> None:
    """Errors end up in logs."""

    def refuse(value: Any) -> Any:
        raise Refused(f"{value} is too short")

    with pytest.raises(ValueError, match=r"^secret=<not shown>: must be long$"):
        Check("long", refuse, shown=False)("secret", "hunter2")


def test_a_text_can_say_it_only_where_there_is_a_parser() -> None:
    """Functions, say, no environment variable has."""
    with pytest.raises(ValueError, match=r"^HOOK='x': must be a function$"):
        Check("a function", accept, readable=False).read("HOOK", "x")


@pytest.mark.parametrize(("text", "kept"), [("", None), ("None", None), ("5", 5.0)])
def test_none_is_allowed_where_it_means_something(text: str, kept: float | None) -> None:
    """An empty variable is none."""
    check = optional(POSITIVE, "no limit")
    assert check.read("SIZE", text) == kept
    assert check("size", kept) == kept
    with pytest.raises(ValueError, match=r"must be a number above 0; or None for no limit"):
        check("size", "x")
