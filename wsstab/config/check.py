"""Check: the values that one option may have, and the sentence that refuses all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn

from ..wording import shown

__all__ = ["LONGEST_SHOWN", "Check", "Refused", "optional", "published", "require"]

LONGEST_SHOWN = 200
"""Most characters of a refused value that its error shows."""


class Refused(Exception):
    """The value is not allowed; `Check` makes the sentence of the error.

    Args:
        why: what is wrong with the value, and what was probably meant if that is clear.
    """

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why


def _not_from_text(text: str) -> NoReturn:
    raise Refused


@dataclass(frozen=True)
class Check:
    """The values that an option may have.

    Args:
        allowed: the words after "must be" in the error.
        accept: returns the value to keep, or raises `Refused`.
        parse: makes a value for ``accept`` from the text of an environment variable.
        readable: whether the text of an environment variable can express the value.
        shown: whether an error may show the value.
        positive: whether it is a number above 0.
        published: the wording of the published package for refused values, for tests written against that package.
    """

    allowed: str
    accept: Callable[[Any], Any]
    parse: Callable[[str], Any] = _not_from_text
    readable: bool = True
    shown: bool = True
    positive: bool = False
    published: str = ""

    def __call__(self, name: str, value: Any) -> Any:
        """Check a value, and return the value to keep.

        Args:
            name: name of the option, for the error.
            value: the value that was given.

        Raises:
            ValueError: the value is not allowed.
        """
        try:
            return self.accept(value)
        except Refused as refused:
            raise self._error(name, value, refused) from None

    def read(self, name: str, text: str) -> Any:
        """Parse and check an environment variable, and return the value to keep.

        Args:
            name: name of the variable, for the error.
            text: its text; spaces around it do not count.

        Raises:
            ValueError: the value is not allowed.
        """
        try:
            return self.accept(self.parse(text.strip()))
        except Refused as refused:
            raise self._error(name, text, refused) from None

    def _error(self, name: str, value: Any, refused: Refused) -> ValueError:
        words = self._published_words(value)
        why = f"; {refused.why}" if refused.why and self.shown else ""
        told = shown(value, LONGEST_SHOWN) if self.shown else "<not shown>"
        return ValueError(f"{f'{name} {words}: ' if words else ''}{name}={told}: must be {self.allowed}{why}")

    def _published_words(self, value: Any) -> str:
        if not self.positive:
            return self.published
        return (self.published or "must be positive") if _is_not_positive(value) else ""


def optional(check: Check, meaning: str) -> Check:
    """A check that allows what another one allows, and ``None``.

    Args:
        check: the check of every value but ``None``.
        meaning: what ``None`` means, such as ``no limit``.
    """

    def accept(value: Any) -> Any:
        return None if value is None else check.accept(value)

    def parse(text: str) -> Any:
        return None if text.lower() in ("", "none") else check.parse(text)

    return replace(check, allowed=f"{check.allowed}; or None for {meaning}", accept=accept, parse=parse)


def published(check: Check, words: str, *, positive: bool = False) -> Check:
    """The same check, but its errors begin with the words of the published package.

    Args:
        check: the check.
        words: the words after the name of the option.
        positive: whether the words are only for numbers of 0 or less.
    """
    return replace(check, published=words, positive=positive)


def require(met: bool, why: str = "") -> None:
    """Refuse the value unless a condition is met.

    Args:
        met: the condition.
        why: see `Refused`.

    Raises:
        Refused: the condition is not met.
    """
    if not met:
        raise Refused(why)


def _is_not_positive(value: Any) -> bool:
    if isinstance(value, timedelta):
        return value <= timedelta(0)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0
