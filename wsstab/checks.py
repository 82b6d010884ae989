"""Checks: what the value of an option may be, and how it is read from text.

A `Check` gives back the value to keep, or a `ValueError` that names the option,
the value and what is allowed. The tables of options in `wsstab.options` and
`wsstab.config` are made of what is here, so that one sentence about an option
serves its constructor, its assignment and its environment variable.

Knows no option by name. Nothing is guessed: ``True`` is no number, ``"30"`` is none either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from json import dumps
from typing import Any, NoReturn

from .close import MAX_REASON_BYTES, clamp_code

__all__ = [
    "Check",
    "close_code",
    "close_reason",
    "duration",
    "flag",
    "function",
    "instance",
    "level",
    "member",
    "message",
    "names",
    "number",
    "optional",
    "origins",
    "patterns",
    "secret",
    "whole",
    "word",
]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})
LONGEST_SHOWN = 200
"""Characters of a refused value that its error shows."""


class Refused(Exception):
    """The value is not allowed; `Check` makes the sentence."""


def _not_from_text(text: str) -> NoReturn:
    raise Refused


@dataclass(frozen=True)
class Check:
    """What an option may be.

    Args:
        allowed: what stands behind "must be" in the error.
        accept: gives the value to keep, or raises `Refused`.
        parse: makes a value for ``accept`` from the text of an environment variable.
        readable: whether a text can say it at all.
        shown: whether an error may show the value.
        positive: whether it is a number above 0.
    """

    allowed: str
    accept: Callable[[Any], Any]
    parse: Callable[[str], Any] = _not_from_text
    readable: bool = True
    shown: bool = True
    positive: bool = False

    def __call__(self, name: str, value: Any) -> Any:
        """The value to keep.

        Args:
            name: of the option, for the error.
            value: what was given.

        Raises:
            ValueError: it is not allowed.
        """
        try:
            return self.accept(value)
        except Refused:
            raise self._error(name, value) from None

    def read(self, name: str, text: str) -> Any:
        """The value to keep of an environment variable.

        Args:
            name: of the variable, for the error.
            text: what it holds; spaces around it do not count.

        Raises:
            ValueError: it is not allowed.
        """
        try:
            return self.accept(self.parse(text.strip()))
        except Refused:
            raise self._error(name, text) from None

    def _error(self, name: str, value: Any) -> ValueError:
        shown = repr(value)[:LONGEST_SHOWN] if self.shown else "<not shown>"
        # The words of the published package, for tests that were written for it.
        negative = self.positive and isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0
        return ValueError(f"{f'{name} must be positive: ' if negative else ''}{name}={shown}: must be {self.allowed}")


def number(what: str, *, or_zero: bool = False) -> Check:
    """A finite number above 0, kept as ``float``.

    Args:
        what: what it is a number of, such as ``a number of seconds``.
        or_zero: whether 0 is allowed too.
    """
    lowest = "that is 0 or more" if or_zero else "greater than 0"

    def accept(value: Any) -> float:
        found = _finite(value)
        _require(found > 0 or (or_zero and found == 0))
        return found

    return Check(f"{what} {lowest}", accept, _to_float, positive=not or_zero)


def whole(what: str) -> Check:
    """A whole number of 1 or more; ``what`` says of what, such as ``bytes``."""

    def accept(value: Any) -> int:
        _require(isinstance(value, int) and not isinstance(value, bool) and value >= 1)
        return int(value)

    return Check(f"a whole number of {what}, 1 or more", accept, _to_int, positive=True)


def flag() -> Check:
    """``True`` or ``False``, nothing that merely counts as such."""

    def accept(value: Any) -> bool:
        _require(isinstance(value, bool))
        return bool(value)

    return Check("True or False", accept, _to_bool)


def member(choices: type[Enum]) -> Check:
    """A member of an enum of texts, or its text; kept as the member."""
    values = [str(choice.value) for choice in choices]

    def accept(value: Any) -> Enum:
        _require(isinstance(value, str) and value in values)
        return choices(value)

    return Check(f"one of {', '.join(values)}", accept, str.lower)


def word(*choices: str) -> Check:
    """One of some words."""

    def accept(value: Any) -> str:
        _require(isinstance(value, str) and value in choices)
        return choices[choices.index(value)]

    return Check(f"one of {', '.join(choices)}", accept, str.lower)


def level() -> Check:
    """The name of a logging level in any case; kept in upper case."""

    def accept(value: Any) -> str:
        _require(isinstance(value, str) and value.upper() in LEVELS)
        return str(value.upper())

    return Check(f"one of {', '.join(LEVELS)}", accept, str)


def duration() -> Check:
    """A ``timedelta`` above 0, or its number of seconds; kept as ``timedelta``."""

    def accept(value: Any) -> timedelta:
        found = value if isinstance(value, timedelta) else _to_timedelta(_finite(value))
        _require(found > timedelta(0))
        return found

    return Check("a timedelta or a number of seconds, greater than 0", accept, _to_float)


def names(what: str) -> Check:
    """A sequence of texts, none of them empty, not one text; kept as a tuple.

    Args:
        what: what they are, such as ``addresses``.
    """
    return Check(f"a list of {what}, each a text that is not empty", _texts, _split)


def secret() -> Check:
    """One key, or a list of keys. The value is never shown; a list is kept as a tuple."""

    def accept(value: Any) -> str | tuple[str, ...]:
        found = _texts([value]) if isinstance(value, str) else _texts(value)
        _require(len(found) > 0)
        return value if isinstance(value, str) else found

    return Check(
        "a text that is not empty, or a list of such texts, newest first", accept, _split_when_several, shown=False
    )


def origins() -> Check:
    """``same-host``, ``*``, or a list of origins; a list is kept as a tuple."""
    words = ("same-host", "*")

    def accept(value: Any) -> str | tuple[str, ...]:
        return value if isinstance(value, str) and value in words else _texts(value)

    def parse(text: str) -> Any:
        return text if text in words else _split(text)

    return Check('"same-host", "*" or a list of origins and host names, each a text that is not empty', accept, parse)


def message() -> Check:
    """Text, bytes or a JSON object to send, or a function that gives one; an object is kept as a copy."""

    def accept(value: Any) -> Any:
        if callable(value):
            return value
        _require(isinstance(value, (str, bytes, dict)))
        _require(isinstance(value, bytes) or _is_json(value))
        return deepcopy(value)

    return Check("a str, bytes or dict that can be sent, or a function that returns one", accept, str)


def close_code() -> Check:
    """A close code that may travel in a frame (RFC 6455 section 7.4.2)."""

    def accept(value: Any) -> int:
        _require(isinstance(value, int) and not isinstance(value, bool) and clamp_code(value) == value)
        return int(value)

    return Check(
        "a close code an endpoint may send: 1000 to 1014 without 1004 to 1006, or 3000 to 4999", accept, _to_int
    )


def close_reason() -> Check:
    """Text that fits into a close frame (RFC 6455 section 5.5)."""

    def accept(value: Any) -> Any:
        _require(isinstance(value, str) and _is_json(value) and len(value.encode()) <= MAX_REASON_BYTES)
        return value

    return Check(f"a text of at most {MAX_REASON_BYTES} bytes of UTF-8", accept, str)


def function(what: str) -> Check:
    """Something that can be called; ``what`` says with what."""

    def accept(value: Any) -> Any:
        _require(callable(value))
        return value

    return Check(f"a function of {what}", accept, readable=False)


def instance(kind: type[Any]) -> Check:
    """An instance of a class."""

    def accept(value: Any) -> Any:
        _require(isinstance(value, kind))
        return value

    return Check(f"{kind.__name__}(...)", accept, readable=False)


def patterns(kind: type[Any]) -> Check:
    """A mapping of path patterns to instances of a class; kept as a dict, in its order."""

    def accept(value: Any) -> dict[str, Any]:
        _require(isinstance(value, Mapping))
        _require(all(isinstance(pattern, str) and pattern.startswith(("/", "*")) for pattern in value))
        _require(all(isinstance(found, kind) for found in value.values()))
        return dict(value)

    allowed = f'a dict from path patterns, which begin with "/" or "*", to {kind.__name__}(...)'
    return Check(allowed, accept, readable=False)


def optional(check: Check, meaning: str) -> Check:
    """What a check allows, or ``None``.

    Args:
        check: for everything but ``None``.
        meaning: what ``None`` means, such as ``no limit``.
    """

    def accept(value: Any) -> Any:
        return None if value is None else check.accept(value)

    def parse(text: str) -> Any:
        return None if text.lower() in ("", "none") else check.parse(text)

    return replace(check, allowed=f"{check.allowed}; or None for {meaning}", accept=accept, parse=parse)


def _require(met: bool) -> None:
    if not met:
        raise Refused


def _finite(value: Any) -> float:
    _require(isinstance(value, (int, float)) and not isinstance(value, bool))
    try:
        found = float(value)
    except OverflowError:
        raise Refused from None
    _require(math.isfinite(found))
    return found


def _texts(value: Any) -> tuple[str, ...]:
    # A mapping or a set has no order to keep, and of one text this would take the letters.
    _require(isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping, set, frozenset)))
    found = tuple(value)
    _require(all(isinstance(text, str) and text.strip() for text in found))
    return found


def _is_json(value: Any) -> bool:
    try:
        dumps(value, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _to_timedelta(seconds: float) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise Refused from None


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refused from None


def _to_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Refused from None


def _to_bool(text: str) -> bool:
    if text.lower() in TRUE:
        return True
    _require(text.lower() in FALSE)
    return False


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _split_when_several(text: str) -> str | list[str]:
    return _split(text) if "," in text else text
