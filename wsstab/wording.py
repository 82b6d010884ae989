"""Wording: how values stand in a sentence of an error or a log line.

The functions bound the length, never raise, whatever the class of the value does, and let no value forge a line.
"""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["LONGEST_WORD", "as_in_url", "cut", "quoted", "said", "shown"]

LONGEST_WORD = 100
"""Characters of a client id, a path or an address that stand in a sentence, and in a field of a line."""


def shown(value: object, longest: int = 100) -> str:
    """The ``repr`` of a value, cut; where it has none, what it is.

    Args:
        value: anything.
        longest: characters that are shown.
    """
    try:
        return repr(value)[:longest]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return f"<{type(value).__name__[:longest]}, whose repr raises {type(error).__name__[:longest]}>"


def said(error: BaseException, longest: int = 1000) -> str:
    """What an error says, cut; where it says nothing, what it is.

    Args:
        error: any.
        longest: characters that are shown.
    """
    try:
        return str(error)[:longest] or type(error).__name__
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return type(error).__name__


def quoted(name: object) -> str:
    """A name in quotes, with what cannot be printed escaped, and cut."""
    text = str(name)
    shown = repr(text[:LONGEST_WORD])
    if len(text) <= LONGEST_WORD and len(shown) <= LONGEST_WORD + 2:
        return shown
    return f"{shown[:LONGEST_WORD]}...{shown[-1]}"


def as_in_url(path: object) -> str:
    """A path or an address as it stands in a URL, and cut; ``-`` for none."""
    # Lone surrogates are legal in a str, and not in UTF-8.
    shown = quote(str(path or "-")[: LONGEST_WORD + 1], safe="/:@+,;=~", errors="replace")
    return shown if len(shown) <= LONGEST_WORD else f"{shown[:LONGEST_WORD]}..."


def cut(word: str) -> str:
    """A word that strangers choose, cut for a field of a log line."""
    return word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}..."
