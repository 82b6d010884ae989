"""Heartbeat: how long a client waits for a sign of life on its carrier.

The server pings when it has heard nothing for long, so the client only needs to notice that nothing comes. It pings by
itself after it woke up, and when it waits for an acknowledgement. Does not read a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Heartbeat", "Timeouts"]

LATE = 5.0
"""Seconds after its deadline from which on a timer says that this process, and not the server, was asleep."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a client waits, in seconds.

    Args:
        handshake: until the handshake is complete.
        hello: from then on until the server says how the carrier begins.
        probe: after it woke up, until the server answers.
        close: until the server answers a close.

    Raises:
        ValueError: a time that is not positive.
    """

    handshake: float = 10.0
    hello: float = 10.0
    probe: float = 5.0
    close: float = 10.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) > 0:
                raise ValueError(f"{each.name}={getattr(self, each.name)!r}: must be above 0")


class Heartbeat:
    """Whether the carrier is alive.

    Args:
        probe: seconds that a carrier gets after this process woke up.

    Attributes:
        deadline: when the carrier has been silent for too long, in seconds; ``None`` for never.
        latency: seconds from the last ping to its answer; ``None`` before the first answer.
    """

    def __init__(self, probe: float) -> None:
        self._probe = probe
        self._patience: float | None = None
        self._probing = False
        self._pinged_at: float | None = None
        self.deadline: float | None = None
        self.latency: float | None = None

    @property
    def waits_for_pong(self) -> bool:
        """Whether a ping is unanswered."""
        return self._pinged_at is not None

    def expect(self, now: float, seconds: float) -> None:
        """Something in particular has to happen within so many seconds; other messages do not count."""
        self.stop()
        self.deadline = now + seconds

    def watch(self, now: float, ping: int, timeout: int) -> None:
        """From now on every message is a sign of life.

        Args:
            now: seconds.
            ping: milliseconds of silence after which the server pings; 0 if it never does, and silence is no sign of
                death.
            timeout: milliseconds that an answer may take.
        """
        self.stop()
        self._patience = (ping + timeout) / 1000 if ping else None
        self.hear(now)

    def hear(self, now: float) -> None:
        """A message has arrived."""
        # What arrives during a probe may have arrived before this process fell asleep: only a pong ends a probe. But a
        # pong may be behind much else, so whatever comes prolongs it.
        patience = self._probe if self._probing else self._patience
        self.deadline = None if patience is None else now + patience

    def probe(self, now: float) -> None:
        """This process was asleep: the carrier has little time to show that it is alive."""
        self._probing = True
        self.hear(now)

    def ping(self, now: float) -> None:
        """A ping is sent."""
        self._pinged_at = now

    def pong(self, now: float) -> None:
        """A pong has arrived."""
        if self._pinged_at is not None:
            self.latency = now - self._pinged_at
            self._pinged_at = None
            self._probing = False
            self.hear(now)

    def overslept(self, now: float) -> bool:
        """Whether the deadline passed so long ago that this process must have been asleep, for the first time."""
        return self.deadline is not None and now - self.deadline >= LATE and not self._probing

    def stop(self) -> None:
        """Expect nothing: there is no carrier, or nobody would send a sign of life."""
        self.deadline = self._patience = self._pinged_at = None
        self._probing = False
