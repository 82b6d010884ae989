"""Path patterns: exact paths, or paths in which ``*`` stands for any characters, including slashes.

They are not compiled to regular expressions: peers choose the path, and with several wildcards the time of a regular
expression is polynomial in the length of the path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["matches", "meets"]

PARAMETER = re.compile(r"{[a-zA-Z_][a-zA-Z0-9_]*(?::([a-zA-Z_][a-zA-Z0-9_]*))?}")
"""A parameter of a Starlette route; its group is the name of the convertor."""


class Piece(NamedTuple):
    """Part of a pattern: one character for which ``takes`` is true, or any number of them if it repeats."""

    takes: Callable[[str], bool]
    repeats: bool
    literal: str = ""


def anything(character: str) -> bool:
    """Accept any character."""
    return True


def no_slash(character: str) -> bool:
    """Accept any character but a slash."""
    return character != "/"


CONVERTORS: dict[str, tuple[Piece, ...]] = {
    "": (Piece(no_slash, False), Piece(no_slash, True)),
    "str": (Piece(no_slash, False), Piece(no_slash, True)),
    "int": (Piece(str.isdigit, False), Piece(str.isdigit, True)),
    "float": (Piece(str.isdigit, False), Piece("0123456789.".__contains__, True)),
    "uuid": (Piece("0123456789abcdefABCDEF-".__contains__, True),),
}
"""The pieces that a parameter stands for, by convertor; an unknown convertor may stand for anything."""


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path."""
    first, *middle = pattern.split("*")
    if not middle:
        return path == pattern
    last = middle.pop()
    # The length is checked because the beginning and the end of a short path may overlap.
    if len(path) < len(first) + len(last) or not (path.startswith(first) and path.endswith(last)):
        return False
    return _in_order(middle, path[len(first) : len(path) - len(last)])


def _in_order(parts: Sequence[str], text: str) -> bool:
    start = 0
    for part in parts:
        # The earliest match is always right: it leaves the most text for the parts behind it.
        found = text.find(part, start)
        if found < 0:
            return False
        start = found + len(part)
    return True


def meets(pattern: str, template: str) -> bool:
    """Whether any path could match both.

    Args:
        pattern: as in ``routes``.
        template: path of a route, with parameters as Starlette writes them: ``/rooms/{room}``, ``/files/{path:path}``.
    """
    ours = [Piece(anything, True) if each == "*" else _literal(each) for each in pattern]
    theirs = _pieces(template)
    seen: set[tuple[int, int]] = set()
    waiting = [(0, 0)]
    # Walks all pairs of positions, each once, so that the time is bounded by the product of the two lengths.
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        if at == (len(ours), len(theirs)):
            return True
        waiting.extend(_steps(ours, theirs, *at))
    return False


def _steps(ours: Sequence[Piece], theirs: Sequence[Piece], i: int, j: int) -> list[tuple[int, int]]:
    left, right = ours[i : i + 1], theirs[j : j + 1]
    steps = []
    if left and left[0].repeats:
        steps.append((i + 1, j))
    if right and right[0].repeats:
        steps.append((i, j + 1))
    if left and right and _share(left[0], right[0]):
        steps.append((i if left[0].repeats else i + 1, j if right[0].repeats else j + 1))
    return steps


def _share(one: Piece, other: Piece) -> bool:
    # If neither piece is a literal, both take digits.
    if one.literal:
        return other.takes(one.literal)
    return not other.literal or one.takes(other.literal)


def _literal(character: str) -> Piece:
    return Piece(character.__eq__, False, character)


def _pieces(template: str) -> list[Piece]:
    pieces: list[Piece] = []
    end = 0
    for found in PARAMETER.finditer(template):
        pieces += map(_literal, template[end : found.start()])
        pieces += CONVERTORS.get(found[1] or "", (Piece(anything, True),))
        end = found.end()
    return [*pieces, *map(_literal, template[end:])]
