"""Limits: how many connections are admitted, and how fast their messages may arrive.

`Admission` counts connections in total and by address. It checks and counts in
one step, so that concurrent handshakes never exceed a limit.
`TokenBucket` and `RateLimiter` bound the rate of messages and bytes; they
return a number of seconds and leave the waiting to the caller.

Does not read the clock, does not close anything, and keeps no count for an
address without connections.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from math import inf, isfinite

from ..close import ADDRESS_LIMIT, CONNECTION_LIMIT, Close

__all__ = ["Admission", "RateLimiter", "TokenBucket", "holder_of"]

LONGEST_ADDRESS = 100
"""Most characters of an address; a longer text is counted as it is."""
CLOCK_ERROR = 1e-6
"""Seconds; a shorter wait is only a rounding error of the clock, and counts as no wait."""


class Admission:
    """Open connections, counted in total and by address.

    IPv6 addresses are counted by /64, because a host is given a whole one (RFC 4291 section 2.5.4,
    RFC 7421) and could use another address each time. An IPv4-mapped IPv6 address counts as its
    IPv4 address. A text that is not an address is counted under itself.

    Args:
        max_connections: connections in total; ``None`` for no limit.
        max_per_address: connections from one address; ``None`` for no limit.

    Attributes:
        count: open connections.
    """

    __slots__ = ("_by_address", "_max_connections", "_max_per_address", "count")

    def __init__(self, max_connections: int | None, max_per_address: int | None) -> None:
        self._max_connections = inf if max_connections is None else max_connections
        self._max_per_address = inf if max_per_address is None else max_per_address
        self._by_address: dict[str | None, int] = {}
        self.count = 0

    def __repr__(self) -> str:
        return f"<Admission [{self.count} connections]>"

    def admit(self, address: str | None, replacing: bool = False) -> Close | None:
        """Admit and count a connection, or refuse it.

        Args:
            address: address of the client; ``None`` if it is unknown, and so not limited.
            replacing: whether the connection takes the place of one that is about to close; it is then
                admitted even at ``max_connections``, but not beyond the limit of its address.

        Returns:
            ``None`` when it is admitted, else the close that names the limit.
        """
        if self.count >= self._max_connections and not replacing:
            return CONNECTION_LIMIT
        holder = holder_of(address)
        held = self._by_address.get(holder, 0)
        if holder is not None and held >= self._max_per_address:
            return ADDRESS_LIMIT
        self._by_address[holder] = held + 1
        self.count += 1
        return None

    @property
    def full(self) -> bool:
        """Whether ``max_connections`` are open."""
        return self.count >= self._max_connections

    def release(self, address: str | None) -> None:
        """Stop counting a connection; an address without connections is ignored."""
        holder = holder_of(address)
        # Removed first, and put back while connections remain: an address without connections must leave nothing
        # behind.
        held = self._by_address.pop(holder, 0)
        if held:
            self.count -= 1
        if held > 1:
            self._by_address[holder] = held - 1

    def count_of(self, address: str | None) -> int:
        """Open connections from an address and from all that are counted with it."""
        return self._by_address.get(holder_of(address), 0)


class TokenBucket:
    """A rate limit that allows bursts; the bucket starts full.

    An amount above the burst passes when the bucket is full, and leaves a debt for which later ones
    wait: every message can pass, however large, and the rate holds in the long run.

    Args:
        rate: tokens added per second.
        burst: capacity, in tokens.

    Raises:
        ValueError: ``rate`` or ``burst`` is not finite and above 0.

    Source: J. Turner, "New directions in communications" (1986), the leaky bucket as a meter.
    """

    # Tokens rather than arrival times (GCRA), because whole amounts taken from a full bucket are then exact.

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float) -> None:
        for name, value in (("rate", rate), ("burst", burst)):
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name}={value!r}: must be a finite number greater than 0")
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        # Before any time that the caller's clock may show.
        self._updated = -inf

    def __repr__(self) -> str:
        return f"<TokenBucket [{self._tokens:g} of {self._burst:g} | {self._rate:g} per second]>"

    def wait(self, amount: float, now: float) -> float:
        """Return how long ``amount`` would have to wait, without taking any tokens.

        Args:
            amount: tokens, 0 or more.
            now: the present, in seconds; when it goes backwards, no tokens are added.

        Returns:
            Seconds, 0.0 when the amount may pass.
        """
        if now > self._updated:
            self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
            self._updated = now
        # An amount above the burst has to wait only for a full bucket; it could never have more.
        seconds = (min(amount, self._burst) - self._tokens) / self._rate
        return seconds if seconds > CLOCK_ERROR else 0.0

    def take(self, amount: float, now: float, force: bool = False) -> float:
        """Take ``amount`` if it may pass now.

        Args:
            amount: tokens, 0 or more.
            now: the present, in seconds.
            force: take the amount in any case, going into debt; the caller then waits for the
                returned time, so that each of several in a row waits longer.

        Returns:
            Seconds to wait, 0.0 when the amount may pass. Without ``force``, a wait takes no tokens.
        """
        seconds = self.wait(amount, now)
        if force or not seconds:
            self._tokens -= amount
        return seconds


class RateLimiter:
    """The rate limit of one connection: messages a second and, where asked for, bytes a second.

    Args:
        messages_per_second: messages that may pass each second.
        burst: messages that may pass at once.
        bytes_per_second: payload bytes that may pass each second, and at once; ``None`` for no
            limit. A larger message passes once the bucket is full again.

    Raises:
        ValueError: an argument is not finite and above 0.
    """

    __slots__ = ("_bytes", "_messages")

    def __init__(self, messages_per_second: float, burst: float, bytes_per_second: float | None) -> None:
        self._messages = TokenBucket(messages_per_second, burst)
        self._bytes = None if bytes_per_second is None else TokenBucket(bytes_per_second, bytes_per_second)

    def __repr__(self) -> str:
        return f"<RateLimiter [messages {self._messages!r} | bytes {self._bytes!r}]>"

    def check(self, size: int, now: float, force: bool = False) -> float:
        """Let a message pass, or return how long it has to wait.

        Args:
            size: payload, in bytes.
            now: the present, in seconds.
            force: count the message in any case; the caller then waits for the returned time.

        Returns:
            Seconds to wait, 0.0 when the message may pass. Without ``force``, a wait takes nothing
            from either limit.
        """
        if self._bytes is None:
            return self._messages.take(1, now, force)
        # Ask both before taking from either: a message that one refuses must not cost tokens of the other.
        seconds = max(self._messages.wait(1, now), self._bytes.wait(size, now))
        if force or not seconds:
            self._messages.take(1, now, force=True)
            self._bytes.take(size, now, force=True)
        return seconds


def holder_of(address: str | None) -> str | None:
    """The key under which an address is counted: see `Admission`."""
    if address is None or len(address) > LONGEST_ADDRESS:
        return address
    return _parsed_holder(address)


# Cached, because each connection asks for it when it comes and when it goes, and many share an address.
@lru_cache(maxsize=1024)
def _parsed_holder(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or f"{IPv6Address(int(parsed) >> 64 << 64)}/64")
