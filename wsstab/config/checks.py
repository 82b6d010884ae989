"""Checks: the kinds of values that options may have, and how each is read from text.

A `Check` returns the value to keep, or raises a `ValueError` that names the option,
the value and what is allowed. The tables of options in `wsstab.config.groups` and
`wsstab.config` are built from these checks, so that one sentence about an option
serves its constructor, its assignment and its environment variable.

This module knows no option by name. Checks do not convert: neither ``True`` nor ``"30"`` is a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from json import dumps
from typing import Any

from ..close import MAX_REASON_BYTES, clamp_code
from ..core import networks, sites
from ..wording import shown
from .callables import fits, is_async, is_generator, is_plain
from .check import LONGEST_SHOWN, Check, Refused, optional, published, require

__all__ = [
    "Check",
    "bearer",
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
    "proxies",
    "published",
    "secret",
    "whole",
    "word",
]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})
LARGEST = 2**53 - 1
"""The largest integer that floats, JSON and the counters of all servers hold exactly; above it, some of them fail."""
SMALLEST = 1e-9
"""The smallest number besides 0: some options are divisors, and a smaller one gives an almost infinite result."""


def number(what: str, *, or_zero: bool = False, most: float = math.inf) -> Check:
    """A finite number above 0, kept as ``float``.

    Args:
        what: what the number counts, such as ``a number of seconds``.
        or_zero: whether 0 is allowed too.
        most: the largest number that is allowed.
    """
    lowest = "that is 0 or more" if or_zero else "greater than 0"

    def accept(value: Any) -> float:
        found = _finite(value)
        require(found > 0 or (or_zero and found == 0))
        require(found >= SMALLEST or found == 0, f"{SMALLEST:g} is the smallest")
        require(found <= most, f"{most:g} is the largest")
        return found

    return Check(f"{what} {lowest}", accept, _to_float, positive=not or_zero)


def whole(what: str, *, most: int = LARGEST) -> Check:
    """A whole number of 1 or more.

    Args:
        what: what is counted, such as ``bytes``.
        most: the largest number that is allowed.
    """

    def accept(value: Any) -> int:
        # A bool is an int in Python, and ``max_connections=True`` is a mistake.
        require(isinstance(value, int) and not isinstance(value, bool) and value >= 1)
        require(value <= most, f"{most} is the largest")
        return int(value)

    return Check(f"a whole number of {what}, 1 or more", accept, _to_int, positive=True)


def flag() -> Check:
    """``True`` or ``False`` itself, not another value that counts as true or false."""

    def accept(value: Any) -> bool:
        require(isinstance(value, bool))
        return bool(value)

    return Check("True or False", accept, _to_bool)


def member(choices: type[Enum]) -> Check:
    """A member of an enum of texts, or its text; kept as the member."""
    values = [str(choice.value) for choice in choices]

    def accept(value: Any) -> Enum:
        require(isinstance(value, str) and value in values)
        return choices(value)

    return Check(f"one of {', '.join(values)}", accept, str.lower)


def word(*choices: str) -> Check:
    """One of some words."""

    def accept(value: Any) -> str:
        require(isinstance(value, str) and value in choices)
        # Our own text and not the given one, which may be of a class derived from str.
        return choices[choices.index(value)]

    return Check(f"one of {', '.join(choices)}", accept, str.lower)


def level() -> Check:
    """The name of a logging level in any case; kept in upper case."""

    def accept(value: Any) -> str:
        require(isinstance(value, str) and value.upper() in LEVELS)
        return str(value.upper())

    return Check(f"one of {', '.join(LEVELS)}", accept, str)


def duration() -> Check:
    """A ``timedelta`` above 0, or its number of seconds; kept as ``timedelta``."""

    def accept(value: Any) -> timedelta:
        found = value if isinstance(value, timedelta) else _to_timedelta(_finite(value))
        require(found > timedelta(0))
        return found

    return Check("a timedelta or a number of seconds, greater than 0", accept, _to_float)


def names(what: str) -> Check:
    """A sequence of texts that are not empty, but not a single text; kept as a tuple.

    Args:
        what: what the texts are, such as ``addresses``.
    """
    return Check(f"a list of {what}, each a text that is not empty", _texts, _split)


def proxies() -> Check:
    """A sequence, as in `names`, of addresses, networks and ``*``."""

    def accept(value: Any) -> tuple[str, ...]:
        found = _texts(value)
        for entry in found:
            if entry != "*":
                _parse(networks.network_of, entry, networks.correction)
        return found

    return replace(names('addresses ("10.0.0.5"), networks ("10.0.0.0/8") or "*"'), accept=accept)


def secret() -> Check:
    """One key, or a list of keys. The value is never shown; a list is kept as a tuple."""
    return _keys("a text that is not empty, or a list of such texts, newest first", _is_json)


def bearer() -> Check:
    """As `secret`, of characters that a header can carry (RFC 9110 section 5.5)."""
    allowed = "a text that is not empty, or a list of such texts, newest first; without control characters and spaces"
    return _keys(allowed, lambda key: _is_json(key) and not any(map(_is_unsafe, key)))


def _keys(allowed: str, is_sound: Callable[[str], bool]) -> Check:
    def accept(value: Any) -> str | tuple[str, ...]:
        found = _texts([value]) if isinstance(value, str) else _texts(value)
        require(len(found) > 0 and all(map(is_sound, found)))
        return value if isinstance(value, str) else found

    return Check(allowed, accept, _split_when_several, shown=False)


def _is_unsafe(character: str) -> bool:
    return character <= " " or "\x7f" <= character <= "\xa0"


def origins() -> Check:
    """``same-host``, ``*``, or a list of origins; a list is kept as a tuple."""
    words = ("same-host", "*")

    def accept(value: Any) -> str | tuple[str, ...]:
        if isinstance(value, str):
            require(value in words, _meant(value, sites.correction))
            return value
        found = _texts(value)
        for entry in found:
            if entry not in words:
                _parse(sites.entry_of, entry, sites.correction)
        return found

    def parse(text: str) -> Any:
        return text if text in words else _split(text)

    return Check('"same-host", "*" or a list of origins and host names, each a text that is not empty', accept, parse)


def message() -> Check:
    """Text, bytes or a JSON object to send, or a function that returns one; an object is kept as a copy."""

    def accept(value: Any) -> Any:
        if callable(value):
            require(fits(value, 0), "it cannot be called without an argument")
            require(not is_async(value), "it is async, and must not be")
            require(not is_generator(value), "it is a generator: nothing of it runs when it is called")
            return value
        require(isinstance(value, (str, bytes, dict)))
        require(isinstance(value, bytes) or _is_json(value))
        # A copy, so that later changes by the application do not reach a configuration that was checked.
        return deepcopy(value)

    return Check("a str, bytes or dict that can be sent, or a function that returns one", accept, str)


def close_code() -> Check:
    """A close code that may travel in a frame (RFC 6455 section 7.4.2)."""

    def accept(value: Any) -> int:
        require(isinstance(value, int) and not isinstance(value, bool) and clamp_code(value) == value)
        return int(value)

    return Check(
        "a close code an endpoint may send: 1000 to 1014 without 1004 to 1006, or 3000 to 4999", accept, _to_int
    )


def close_reason() -> Check:
    """Text that fits into a close frame (RFC 6455 section 5.5)."""

    def accept(value: Any) -> Any:
        require(isinstance(value, str) and _is_json(value) and len(value.encode()) <= MAX_REASON_BYTES)
        return value

    return Check(f"a text of at most {MAX_REASON_BYTES} bytes of UTF-8", accept, str)


def function(what: str, *, awaited: bool | None = None) -> Check:
    """Something that can be called with one argument.

    Args:
        what: the argument, such as ``the scope``.
        awaited: ``True`` if the function must be async, ``False`` if it must not be; ``None`` for either.
    """

    def accept(value: Any) -> Any:
        require(callable(value))
        require(fits(value, 1), "it cannot be called with one argument")
        require(not is_generator(value), "it is a generator: nothing of it runs when it is called")
        require(not (awaited and is_plain(value)), "it is not async; write async def")
        require(awaited is not False or not is_async(value), "it is async, and must not be")
        return value

    return Check(f"a function of {what}", accept, readable=False)


def instance(kind: type[Any]) -> Check:
    """An instance of a class."""

    def accept(value: Any) -> Any:
        require(isinstance(value, kind))
        return value

    return Check(f"{kind.__name__}(...)", accept, readable=False)


def patterns(kind: type[Any]) -> Check:
    """A mapping from path patterns to instances of a class; kept as a dict in the same order."""

    def accept(value: Any) -> dict[str, Any]:
        require(isinstance(value, Mapping))
        require(all(isinstance(pattern, str) and pattern.startswith(("/", "*")) for pattern in value))
        require(all(isinstance(found, kind) for found in value.values()))
        return dict(value)

    allowed = f'a dict from path patterns, which begin with "/" or "*", to {kind.__name__}(...)'
    return Check(allowed, accept, readable=False)


def _parse(parse: Callable[[str], object], entry: str, correct: Callable[[str], str | None]) -> None:
    try:
        parse(entry)
    except ValueError:
        raise Refused(f"not {shown(entry, LONGEST_SHOWN)}{_meant(entry, correct, listed=True)}") from None


def _meant(entry: str, correct: Callable[[str], str | None], listed: bool = False) -> str:
    meant = correct(entry)
    if meant is None:
        return ""
    return f"{', but ' if listed else 'did you mean '}{shown(meant, LONGEST_SHOWN)}{'' if listed else '?'}"


def _finite(value: Any) -> float:
    require(isinstance(value, (int, float)) and not isinstance(value, bool))
    try:
        found = float(value)
    except OverflowError:
        raise Refused from None
    require(math.isfinite(found))
    return found


def _texts(value: Any) -> tuple[str, ...]:
    # Mappings and sets have no order to keep, and a single text would be split into letters.
    require(isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping, set, frozenset)))
    found = tuple(value)
    require(all(isinstance(text, str) and text.strip() for text in found))
    return found


def _is_json(value: Any) -> bool:
    try:
        dumps(value, ensure_ascii=False).encode()
    except Exception:
        # An object of the application may raise anything.
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
    require(text.lower() in FALSE)
    return False


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _split_when_several(text: str) -> str | list[str]:
    return _split(text) if "," in text else text
