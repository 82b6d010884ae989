"""Levels of the log: whether a line is heard, and which level holds where nobody has configured one."""

from __future__ import annotations

import logging

__all__ = ["forget_suggestion", "is_heard", "suggest_level"]

_suggested: dict[str, int] = {}
"""The level that `suggest_level` has set last; nothing once somebody has configured one."""


def is_heard(logger: logging.Logger, level: int) -> bool:
    """Whether a line would be written: below WARNING, Python builds a record and drops it if no handler exists."""
    return logger.isEnabledFor(level) and (level >= logging.WARNING or logger.hasHandlers())


def suggest_level(level: str) -> None:
    """Set the level of this package's logger, if nobody but an earlier call of this has.

    Args:
        level: as in ``WebSocketConfig.log_level``.
    """
    logger = logging.getLogger("wsstab")
    if logger.level in (logging.NOTSET, _suggested.get("level")):
        logger.setLevel(level)
        _suggested["level"] = logger.level


def forget_suggestion() -> None:
    """Forget the suggested level, because the program configures its own."""
    _suggested.clear()
