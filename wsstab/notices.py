"""Notices: log lines that are written once, or at a limited rate.

A warning that the configuration causes is logged once. Lines that peers can cause at will have a budget per kind and
time window: a thousand lines of one kind silence no other kind, and their own kind only for a while.
Suppressed lines are counted, and the count is logged.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from time import monotonic

__all__ = ["FEW", "WINDOW", "Notices"]

logger = logging.getLogger("wsstab")

FEW = 10
"""Most lines of one kind in one window."""
WINDOW = 60.0
"""Length of a window in seconds."""
MOST_ONCE = 100
"""Most warnings about the configuration that are logged in all."""
MOST_KNOWN = 1_000
"""Most lines caused by peers that are remembered, and so not logged twice."""


class Notices:
    """The lines logged so far, and how often; its length is the number of warnings about the configuration."""

    def __init__(self) -> None:
        self._once: set[str] = set()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._budgets: dict[str, _Budget] = {}
        self._owing = False

    def __len__(self) -> int:
        return len(self._once)

    def once(self, key: str, line: str, *args: object) -> None:
        """Log a warning the first time its key is used; at most a hundred different keys.

        Args:
            key: identifies the warning; peers must not be able to choose it.
            line: the sentence, as a format.
            args: the arguments of the format.
        """
        if key not in self._once and len(self._once) < MOST_ONCE:
            self._once.add(key)
            logger.warning(line, *args)

    def of_peers(self, key: str, line: str, *args: object) -> None:
        """Log a warning that peers can cause, within the budget of its kind, and only once for each key.

        Args:
            key: identifies the warning; its first word is the kind.
            line: the sentence, as a format.
            args: the arguments of the format.
        """
        if key in self._known:
            self._known.move_to_end(key)
        elif self.may_tell(key.partition(" ")[0]):
            self._known[key] = None
            if len(self._known) > MOST_KNOWN:
                # The one not used for longest goes, because peers can make up keys without end.
                self._known.popitem(last=False)
            logger.warning(line, *args)

    def may_tell(self, kind: str, level: int = logging.WARNING) -> bool:
        """Whether one more line of this kind may be logged now; if not, it is counted as left out.

        Args:
            kind: one of a few constants; peers must not be able to choose it.
            level: the level of the line that tells how many were left out.
        """
        now = monotonic()
        # Only if something was left out, so that most lines cost no walk of the budgets.
        if self._owing:
            self.tell_left_out(now)
        budget = self._budgets.get(kind)
        if budget is None or now - budget.since >= WINDOW:
            budget = self._budgets[kind] = _Budget(now, level)
        if budget.told < FEW:
            budget.told += 1
            return True
        budget.left_out += 1
        self._owing = True
        return False

    def tell_left_out(self, now: float | None = None) -> None:
        """Log how many lines were left out.

        Args:
            now: count only windows that have ended by then; ``None`` for all windows.
        """
        self._owing = False
        for kind, budget in self._budgets.items():
            if not budget.left_out:
                continue
            if now is not None and now - budget.since < WINDOW:
                self._owing = True
                continue
            left_out, budget.left_out = budget.left_out, 0
            told = {"kind": kind, "left_out": left_out}
            logger.log(budget.level, "! %d more lines of this kind were left out: %s", left_out, kind, extra=told)


class _Budget:
    """The lines of one kind in one window."""

    __slots__ = ("left_out", "level", "since", "told")

    def __init__(self, since: float, level: int) -> None:
        self.since = since
        self.level = level
        self.told = self.left_out = 0
