"""Back-off: when a client that has lost its carrier tries again.

Each failure doubles the bound under which a delay is drawn ("full jitter": M. Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015), so that many clients that were cut at once do not come back at once. A server
may assign a slot instead. Does not read a clock.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """When the next attempt is due.

    Args:
        chance: draws a number from 0 to 1.
        min_delay: seconds below which the first delay is drawn.
        max_delay: seconds below which every delay is drawn.

    Attributes:
        due: when the next attempt is due, in seconds; ``None`` if none is planned.

    Raises:
        ValueError: a delay that is not positive, or a ``max_delay`` below ``min_delay``.
    """

    def __init__(self, chance: Callable[[], float], min_delay: float = 0.5, max_delay: float = 20.0) -> None:
        if not min_delay > 0:
            raise ValueError(f"min_delay={min_delay!r}: must be above 0")
        if not min_delay <= max_delay:
            raise ValueError(f"max_delay={max_delay!r}: must be at least min_delay ({min_delay!r})")
        self._chance = chance
        self._min_delay = min_delay
        self._max_delay = max_delay
        self._bound = min_delay
        self._slot = False
        self.due: float | None = None

    def plan(self, now: float, slot: int | None = None) -> None:
        """Plan the next attempt.

        Args:
            now: seconds.
            slot: milliseconds after which the server expects the client; ``None`` to draw a delay.
        """
        self._slot = slot is not None
        if slot is not None:
            self.due = now + slot / 1000
        else:
            self.due = now + self._bound * self._chance()
            self._bound = min(self._bound * 2, self._max_delay)

    def may_hurry(self) -> bool:
        """Whether the planned attempt may be made at once.

        A slot is kept: whoever woke up with all others would arrive with all others.
        """
        return self.due is not None and not self._slot

    def stop(self) -> None:
        """Plan no attempt."""
        self.due = None

    def reset(self) -> None:
        """Begin anew with short delays: the last attempt was a success."""
        self._bound = self._min_delay
