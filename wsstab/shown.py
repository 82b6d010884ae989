"""Values in a sentence: never too long, and never an exception, whatever their class does."""

from __future__ import annotations

__all__ = ["said", "shown"]


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
