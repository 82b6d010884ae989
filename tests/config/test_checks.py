"""Checks: what each kind of option accepts, refuses, and reads from text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import Enum, IntEnum
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstab.close import CloseCode, clamp_code
from wsstab.config import checks
from wsstab.config.checks import Check


class Colour(str, Enum):
    """An option with a fixed set of texts."""

    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    """Named numbers, which are accepted as numbers."""

    SMALL = 3


def cyclic() -> dict[str, Any]:
    """A dict that contains itself."""
    inner: dict[str, Any] = {}
    inner["self"] = inner
    return inner


def nothing() -> None:
    """A function without arguments."""


def heard(event: object) -> None:
    """A function of one argument."""


SECONDS = checks.number("a number of seconds")
INTERVAL = checks.number("a number of seconds", or_zero=True)
COUNT = checks.whole("messages")
FLAG = checks.flag()
COLOUR = checks.member(Colour)
WORD = checks.word("close", "delay")
LEVEL = checks.level()
DURATION = checks.duration()
NAMES = checks.names("addresses")
SECRET = checks.secret()
ORIGINS = checks.origins()
MESSAGE = checks.message()
CODE = checks.close_code()
REASON = checks.close_reason()
FUNCTION = checks.function("the scope")
INSTANCE = checks.instance(Check)
PATTERNS = checks.patterns(Check)

ACCEPTED: list[tuple[Check, Any, Any]] = [
    (SECONDS, 0.001, 0.001),
    (SECONDS, 30, 30.0),
    (SECONDS, Size.SMALL, 3.0),
    (INTERVAL, 0, 0.0),
    (COUNT, 1, 1),
    (COUNT, 2**53 - 1, 2**53 - 1),
    (COUNT, Size.SMALL, 3),
    (FLAG, True, True),
    (FLAG, False, False),
    (COLOUR, "red", Colour.RED),
    (COLOUR, Colour.BLUE, Colour.BLUE),
    (WORD, "delay", "delay"),
    (LEVEL, "info", "INFO"),
    (LEVEL, "CRITICAL", "CRITICAL"),
    (DURATION, timedelta(hours=1), timedelta(hours=1)),
    (DURATION, 90, timedelta(seconds=90)),
    (DURATION, 0.5, timedelta(milliseconds=500)),
    (NAMES, [], ()),
    (NAMES, ["a", "b"], ("a", "b")),
    (NAMES, ("a",), ("a",)),
    (SECRET, "key", "key"),
    (SECRET, ["new", "old"], ("new", "old")),
    (ORIGINS, "same-host", "same-host"),
    (ORIGINS, "*", "*"),
    (ORIGINS, [], ()),
    (ORIGINS, ["*.example.com"], ("*.example.com",)),
    (MESSAGE, "", ""),
    (MESSAGE, "ping", "ping"),
    (MESSAGE, b"\xff", b"\xff"),
    (MESSAGE, {"type": "ping"}, {"type": "ping"}),
    (MESSAGE, nothing, nothing),
    (CODE, 1012, 1012),
    (CODE, CloseCode.GOING_AWAY, 1001),
    (CODE, 4999, 4999),
    (REASON, "", ""),
    (REASON, "x" * 123, "x" * 123),
    (REASON, "é" * 61, "é" * 61),
    (FUNCTION, heard, heard),
    (INSTANCE, FLAG, FLAG),
    (PATTERNS, {}, {}),
    (PATTERNS, {"/ws": FLAG, "*": COUNT}, {"/ws": FLAG, "*": COUNT}),
]

REFUSED: list[tuple[Check, list[Any]]] = [
    (SECONDS, [0, -1, nan, inf, -inf, True, "30", None, 10**400, [1], timedelta(seconds=1)]),
    (INTERVAL, [-0.001, nan, inf, False, None]),
    (COUNT, [0, -1, 1.0, True, "ten", None, nan]),
    (FLAG, [0, 1, "true", None]),
    (COLOUR, ["", "RED", "green", None, 1, [], True]),
    (WORD, ["", "CLOSE", "drop", None, 1, []]),
    (LEVEL, ["", "LOUD", "NOTSET", 10, None]),
    (DURATION, [0, timedelta(0), timedelta(seconds=-1), -1, nan, inf, True, "1h", None, 1e300]),
    (NAMES, ["127.0.0.1", b"x", {"a": 1}, {"a"}, [""], [" "], ["a", 1], None, 5]),
    (SECRET, ["", " ", [], ["new", ""], b"key", 5, True, {"a"}]),
    (ORIGINS, ["", "null", [""], [None], None, 5]),
    (MESSAGE, [5, None, [1], {"a": {1}}, {"a": nothing}, "\ud800", {"a": "\ud800"}, cyclic(), bytearray(b"x")]),
    (CODE, [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 1012.0, True, "1012", None]),
    (REASON, ["x" * 124, "é" * 62, "\ud800", None, b"x"]),
    (FUNCTION, [5, "f", None]),
    (INSTANCE, [5, None, Check]),
    (PATTERNS, [None, [], "/ws", {"ws": FLAG}, {"": FLAG}, {5: FLAG}, {"/ws": 5}, {"/ws": Check}]),
]


@pytest.mark.parametrize(("check", "value", "kept"), ACCEPTED)
def test_an_allowed_value_is_kept_in_the_type_of_its_option(check: Check, value: Any, kept: Any) -> None:
    """A text becomes an enum member, a whole number of seconds a float, and a list a tuple."""
    assert check("option", value) == kept
    assert type(check("option", value)) is type(kept)


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in REFUSED for value in values])
def test_any_other_value_is_refused_with_what_is_allowed(check: Check, value: Any) -> None:
    """The error is always a ``ValueError`` that gives the name, the value and what is allowed."""
    with pytest.raises(ValueError) as caught:
        check("option", value)
    shown = repr(value)[:200] if check is not SECRET else "<not shown>"
    negative = check.positive and type(value) in (int, float) and value <= 0
    told = f"option={shown}: must be {check.allowed}"
    # The error text of the published package.
    assert str(caught.value) == (f"option must be positive: {told}" if negative else told)
    assert caught.value.__suppress_context__


def test_the_error_says_what_is_allowed() -> None:
    """It is written for a reader who has never seen the option."""
    with pytest.raises(ValueError, match=r"heartbeat_interval=0: must be a number of seconds greater than 0$"):
        SECONDS("heartbeat_interval", 0)
    with pytest.raises(ValueError, match=r"n=0: must be a whole number of messages, 1 or more; or None for no limit$"):
        checks.optional(COUNT, "no limit")("n", 0)
    with pytest.raises(ValueError, match=r"^colour='green': must be one of red, blue$"):
        COLOUR("colour", "green")


def test_no_error_shows_a_secret() -> None:
    """Errors end up in logs."""
    with pytest.raises(ValueError) as caught:
        SECRET("secret_key", ["hunter2", ""])
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError) as caught:
        SECRET.read("KEY", ", ")
    assert str(caught.value).startswith("KEY=<not shown>: must be")


def test_a_huge_value_is_shortened_in_the_error() -> None:
    """Errors end up in log lines, whose length is limited."""
    with pytest.raises(ValueError) as caught:
        SECONDS("option", "x" * 10_000)
    assert len(str(caught.value)) < 300


def test_later_changes_to_a_given_object_do_not_reach_the_kept_value() -> None:
    """Lists and dicts are copied, nested ones too."""
    listed, message, routes = ["a"], {"a": {"b": 1}}, {"/ws": FLAG}
    kept = NAMES("n", listed), MESSAGE("m", message), PATTERNS("p", routes)
    listed.append("b")
    message["a"]["b"] = 2
    routes.clear()
    assert kept == (("a",), {"a": {"b": 1}}, {"/ws": FLAG})


READ: list[tuple[Check, str, Any]] = [
    (SECONDS, "25", 25.0),
    (SECONDS, " 0.5\n", 0.5),
    (INTERVAL, "0", 0.0),
    (COUNT, "100", 100),
    *[(FLAG, text, True) for text in ("true", "True", "1", "yes", "ON")],
    *[(FLAG, text, False) for text in ("false", "FALSE", "0", "no", "Off")],
    (COLOUR, "RED", Colour.RED),
    (WORD, "Delay", "delay"),
    (LEVEL, "debug", "DEBUG"),
    (DURATION, "90", timedelta(seconds=90)),
    (NAMES, "", ()),
    (NAMES, "10.0.0.0/8, ::1,", ("10.0.0.0/8", "::1")),
    (SECRET, "key", "key"),
    (SECRET, "new,old", ("new", "old")),
    (ORIGINS, "*", "*"),
    (ORIGINS, "same-host", "same-host"),
    (ORIGINS, "https://a.example,*.b.example", ("https://a.example", "*.b.example")),
    (MESSAGE, "beat", "beat"),
    (CODE, "1001", 1001),
    (REASON, "see you", "see you"),
]

UNREAD: list[tuple[Check, list[str]]] = [
    (SECONDS, ["", "0", "abc", "nan", "inf", "1h", "1,5"]),
    (COUNT, ["", "0", "1.5", "ten", "1e3"]),
    (FLAG, ["", "maybe", "2", "none"]),
    (COLOUR, ["", "green"]),
    (LEVEL, ["", "loud"]),
    (DURATION, ["", "0", "1:00"]),
    (CODE, ["", "1005", "x"]),
    (REASON, ["x" * 124]),
    (FUNCTION, ["print"]),
    (INSTANCE, ["Check()"]),
    (PATTERNS, ["{}"]),
]


@pytest.mark.parametrize(("check", "text", "kept"), READ)
def test_a_text_is_read_as_the_value_it_stands_for(check: Check, text: str, kept: Any) -> None:
    """Spaces around it are ignored."""
    assert check.read("VARIABLE", text) == kept
    assert type(check.read("VARIABLE", text)) is type(kept)


@pytest.mark.parametrize(("check", "text"), [(check, text) for check, texts in UNREAD for text in texts])
def test_an_unreadable_text_is_refused_with_the_name_of_its_variable(check: Check, text: str) -> None:
    """The error gives the text as it was, and what is allowed."""
    with pytest.raises(ValueError) as caught:
        check.read("VARIABLE", text)
    assert str(caught.value) == f"VARIABLE={text!r}: must be {check.allowed}"


def test_none_is_allowed_only_for_an_optional_check() -> None:
    """Texts for it are the word in any case, and an empty text."""
    limit = checks.optional(COUNT, "no limit")
    assert limit("n", None) is None
    assert limit("n", 5) == 5
    assert [limit.read("N", text) for text in ("", "none", " None ", "5")] == [None, None, None, 5]
    with pytest.raises(ValueError, match="or None for no limit"):
        limit("n", "none")


def test_a_check_knows_whether_it_can_be_read_from_text() -> None:
    """Functions, groups and routes cannot come from the environment, optional or not."""
    unreadable = [FUNCTION, INSTANCE, PATTERNS]
    assert [check.readable for check in unreadable] == [False] * 3
    assert not checks.optional(FUNCTION, "nobody").readable
    assert checks.optional(SECRET, "none").readable
    assert not checks.optional(SECRET, "none").shown


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.text())
ALL = [check for check, _ in REFUSED]


@given(check=st.sampled_from(ALL), value=ANYTHING)
def test_a_check_returns_a_value_or_raises_valueerror(check: Check, value: Any) -> None:
    """A value that it returned is accepted again and stays the same."""
    taken = _taken(lambda: check("option", value))
    if taken is not REFUSAL:
        assert check("option", taken) == taken


@given(check=st.sampled_from(ALL), text=st.text())
def test_reading_returns_an_allowed_value_or_raises_valueerror(check: Check, text: str) -> None:
    """An environment may contain any text."""
    taken = _taken(lambda: check.read("VARIABLE", text))
    if taken is not REFUSAL:
        assert check("option", taken) == taken


REFUSAL = object()


def _taken(take: Callable[[], Any]) -> Any:
    try:
        return take()
    except ValueError:
        return REFUSAL


@given(code=st.integers(900, 5100))
def test_a_close_code_is_allowed_exactly_when_it_may_be_sent(code: int) -> None:
    """The close codes of handlers follow the same rule."""
    assert (_taken(lambda: CODE("code", code)) is not REFUSAL) == (clamp_code(code) == code)
