"""Limits: how many connections come in, and how fast their messages may.

`Admission` counts connections in all and by address. Asking and counting are
one step, so that any number of handshakes at once never exceed a limit.
`TokenBucket` and `RateLimiter` bound the rate of messages and bytes; they
answer with a number of seconds and leave the waiting to others.

Does not read the clock, does not close anything, and counts nothing of an
address that has no connection.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from math import inf, isfinite

from ..close import ADDRESS_LIMIT, CONNECTION_LIMIT, Close

__all__ = ["Admission", "RateLimiter", "TokenBucket", "holder_of"]

LONGEST_ADDRESS = 100
"""Characters; what is longer is no address, and counts as itself."""
CLOCK_ERROR = 1e-6
"""Seconds: a wait below it is the rounding of clocks, and counts as none."""


class Admission:
    """Open connections, counted in all and by address.

    An IPv6 address counts with its /64, because a host is given a whole one (RFC 4291 section
    2.5.4, RFC 7421) and could come from another address each time. An IPv4-mapped IPv6 address
    counts as its IPv4 address. What is not an address counts as itself.

    Args:
        max_connections: how many in all; ``None`` for no limit.
        max_per_address: how many of one address; ``None`` for no limit.

    Attributes:
        count: connections that are open.
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
        """Count a connection in, or refuse it.

        Args:
            address: of the client; ``None`` where it is not known, which no address limit holds.
            replacing: it takes the place of a connection that is about to go, and is let in at the
                limit of all connections. The limit of its address holds.

        Returns:
            ``None`` when it is counted, else the close that says which limit refused it.
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
        """Whether there are as many as there may be in all."""
        return self.count >= self._max_connections

    def release(self, address: str | None) -> None:
        """Count a connection out; an address that holds none is left alone."""
        holder = holder_of(address)
        held = self._by_address.pop(holder, 0)
        if held:
            self.count -= 1
        if held > 1:
            self._by_address[holder] = held - 1

    def count_of(self, address: str | None) -> int:
        """Open connections of an address, with all that count as the same."""
        return self._by_address.get(holder_of(address), 0)


class TokenBucket:
    """A rate with room for bursts; full at first.

    An amount above the burst passes when the bucket is full, and leaves a debt that later ones
    wait for: no message is too large to pass ever, and the rate holds in the long run.

    Args:
        rate: tokens a second that flow in.
        burst: tokens that it holds.

    Raises:
        ValueError: ``rate`` or ``burst`` is not finite and above 0.

    Source: J. Turner, "New directions in communications" (1986), the leaky bucket as a meter.
    """

    # Tokens and not arrival times (GCRA): whole amounts out of a full bucket are then exact.

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float) -> None:
        for name, value in (("rate", rate), ("burst", burst)):
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name}={value!r}: must be a finite number greater than 0")
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated = -inf

    def __repr__(self) -> str:
        return f"<TokenBucket [{self._tokens:g} of {self._burst:g} | {self._rate:g} per second]>"

    def wait(self, amount: float, now: float) -> float:
        """How long ``amount`` would have to wait; takes nothing.

        Args:
            amount: tokens, 0 or more.
            now: the present, in seconds; when it goes backwards, nothing flows in.

        Returns:
            Seconds, 0.0 when it may pass.
        """
        if now > self._updated:
            self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
            self._updated = now
        seconds = (min(amount, self._burst) - self._tokens) / self._rate
        return seconds if seconds > CLOCK_ERROR else 0.0

    def take(self, amount: float, now: float, force: bool = False) -> float:
        """Take ``amount`` when it may pass.

        Args:
            amount: tokens, 0 or more.
            now: the present, in seconds.
            force: take it in any case, into debt; who forces it waits for what is returned, and so
                each in a row of them waits longer.

        Returns:
            Seconds to wait, 0.0 when it may pass. A wait without ``force`` has taken nothing.
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
            limit. A message above it passes when nothing has for long enough.

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
        """Let a message pass, or say how long it has to wait.

        Args:
            size: payload, in bytes.
            now: the present, in seconds.
            force: it passes in any case, and its sender waits for what is returned.

        Returns:
            Seconds to wait, 0.0 when it may pass. A wait without ``force`` has taken nothing from
            either limit.
        """
        if self._bytes is None:
            return self._messages.take(1, now, force)
        # Both are asked before either is taken from: what one refuses must not cost the other.
        seconds = max(self._messages.wait(1, now), self._bytes.wait(size, now))
        if force or not seconds:
            self._messages.take(1, now, force=True)
            self._bytes.take(size, now, force=True)
        return seconds


def holder_of(address: str | None) -> str | None:
    """Who is counted under an address: see `Admission`."""
    if address is None or len(address) > LONGEST_ADDRESS:
        return address
    return _parsed_holder(address)


@lru_cache(maxsize=1024)
def _parsed_holder(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or f"{IPv6Address(int(parsed) >> 64 << 64)}/64")
