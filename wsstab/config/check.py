"""A check: what the value of one option may be, and the sentence that refuses any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn

from ..wording import shown

__all__ = ["LONGEST_SHOWN", "Check", "Refused", "optional", "published", "require"]

LONGEST_SHOWN = 200
"""Characters of a refused value that its error shows."""


class Refused(Exception):
    """The value is not allowed; `Check` makes the sentence.

    Args:
        why: what is wrong with the value, and the probable intention where that is clear.
    """

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why


def _not_from_text(text: str) -> NoReturn:
    raise Refused


@dataclass(frozen=True)
class Check:
    """What an option may be.

    Args:
        allowed: what stands behind "must be" in the error.
        accept: gives the value to keep, or raises `Refused`.
        parse: makes a value for ``accept`` from the text of an environment variable.
        readable: whether a text can express the value.
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
        """The value to keep.

        Args:
            name: of the option, for the error.
            value: what was given.

        Raises:
            ValueError: it is not allowed.
        """
        try:
            return self.accept(value)
        except Refused as refused:
            raise self._error(name, value, refused) from None

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


def published(check: Check, words: str, *, positive: bool = False) -> Check:
    """The same check, whose errors begin with words of the published package.

    Args:
        check: what the option may be.
        words: what stands behind the name of the option.
        positive: they are meant for numbers of 0 or less alone.
    """
    return replace(check, published=words, positive=positive)


def require(met: bool, why: str = "") -> None:
    """Refuse the value, unless that is met.

    Args:
        met: what must be.
        why: see `Refused`.

    Raises:
        Refused: it is not.
    """
    if not met:
        raise Refused(why)


def _is_not_positive(value: Any) -> bool:
    if isinstance(value, timedelta):
        return value <= timedelta(0)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0
