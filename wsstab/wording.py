"""Wording: how values are shown in the sentence of an error or a log line.

The functions limit the length, never raise, whatever the class of the value does, and let no value forge a line.
"""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["LONGEST_WORD", "as_in_url", "cut", "quoted", "said", "shown"]

LONGEST_WORD = 100
"""Most characters of a client id, a path or an address in a sentence, and in a field of a line."""


def shown(value: object, longest: int = 100) -> str:
    """The ``repr`` of a value, cut; the name of its class if the ``repr`` raises.

    Args:
        value: anything.
        longest: most characters that are shown.
    """
    try:
        return repr(value)[:longest]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return f"<{type(value).__name__[:longest]}, whose repr raises {type(error).__name__[:longest]}>"


def said(error: BaseException, longest: int = 1000) -> str:
    """The text of an error, cut; the name of its class if the text is empty or raises.

    Args:
        error: any error.
        longest: most characters that are shown.
    """
    try:
        return str(error)[:longest] or type(error).__name__
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return type(error).__name__


def quoted(name: object) -> str:
    """A name in quotes, cut, with unprintable characters escaped."""
    text = str(name)
    # Cut before and after: a long name must not be escaped as a whole, and an escaped character is up to ten long.
    shown = repr(text[:LONGEST_WORD])
    if len(text) <= LONGEST_WORD and len(shown) <= LONGEST_WORD + 2:
        return shown
    return f"{shown[:LONGEST_WORD]}...{shown[-1]}"


def as_in_url(path: object) -> str:
    """A path or an address, URL-encoded and cut; ``-`` if there is none."""
    # "replace", because a str may contain lone surrogates, which UTF-8 cannot encode.
    shown = quote(str(path or "-")[: LONGEST_WORD + 1], safe="/:@+,;=~", errors="replace")
    return shown if len(shown) <= LONGEST_WORD else f"{shown[:LONGEST_WORD]}..."


def cut(word: str) -> str:
    """A word that a peer chose, cut for a field of a log line."""
    return word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}..."
