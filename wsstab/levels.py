"""Log levels: whether a line would be written, and which level applies if the program configures none."""

from __future__ import annotations

import logging

__all__ = ["forget_suggestion", "is_heard", "suggest_level"]

_suggested: dict[str, int] = {}
"""The level that `suggest_level` has set last; empty once the program has configured one."""


def is_heard(logger: logging.Logger, level: int) -> bool:
    """Whether a line would be written. Without a handler, Python builds records below WARNING only to drop them."""
    return logger.isEnabledFor(level) and (level >= logging.WARNING or logger.hasHandlers())


def suggest_level(level: str) -> None:
    """Set the level of this package's logger, unless something other than an earlier call has set it.

    Args:
        level: the level, as in ``WebSocketConfig.log_level``.
    """
    logger = logging.getLogger("wsstab")
    if logger.level in (logging.NOTSET, _suggested.get("level")):
        logger.setLevel(level)
        _suggested["level"] = logger.level


def forget_suggestion() -> None:
    """Forget the suggested level, because the program configures its own."""
    _suggested.clear()
