"""Admission and rate limits, by examples and against plain counts."""

from __future__ import annotations

from collections import Counter
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstab.close import ADDRESS_LIMIT, CONNECTION_LIMIT
from wsstab.core.limits import Admission, RateLimiter, TokenBucket, _parsed_holder

# Admission


def test_connections_are_admitted_up_to_the_limit() -> None:
    """The limit itself is allowed; one connection more is refused and not counted."""
    admission = Admission(2, None)
    assert [admission.admit(f"10.0.0.{host}") for host in (1, 2, 3)] == [None, None, CONNECTION_LIMIT]
    assert admission.count == 2
    assert admission.count_of("10.0.0.3") == 0


def test_admission_is_full_at_the_limit_and_beyond() -> None:
    """Without a limit it is never full."""
    admission, unlimited = Admission(1, None), Admission(None, None)
    assert not admission.full
    admission.admit(None)
    assert admission.full
    admission.admit(None, replacing=True)
    assert admission.full
    unlimited.admit(None)
    assert not unlimited.full


def test_a_released_place_can_be_taken_again() -> None:
    """Each release makes room for one connection."""
    admission = Admission(1, None)
    admission.admit("10.0.0.1")
    admission.release("10.0.0.1")
    assert admission.admit("10.0.0.2") is None
    assert admission.admit("10.0.0.3") is CONNECTION_LIMIT


def test_a_connection_that_replaces_another_is_admitted_at_the_limit() -> None:
    """While both are open, the count is one above the limit."""
    admission = Admission(1, None)
    admission.admit("10.0.0.1")
    assert admission.admit("10.0.0.1", replacing=True) is None
    assert admission.count == 2
    admission.release("10.0.0.1")
    assert admission.admit("10.0.0.1") is CONNECTION_LIMIT


def test_an_address_is_admitted_up_to_its_limit() -> None:
    """Other addresses are not affected, and replacing a connection does not lift the limit."""
    admission = Admission(None, 2)
    assert [admission.admit("10.0.0.1") for _ in range(3)] == [None, None, ADDRESS_LIMIT]
    assert admission.admit("10.0.0.1", replacing=True) is ADDRESS_LIMIT
    assert admission.admit("10.0.0.2") is None
    assert (admission.count, admission.count_of("10.0.0.1"), admission.count_of("10.0.0.2")) == (3, 2, 1)


def test_a_refusal_by_address_takes_no_place_from_the_total() -> None:
    """A connection counts for both limits or for neither."""
    admission = Admission(2, 1)
    admission.admit("10.0.0.1")
    assert admission.admit("10.0.0.1") is ADDRESS_LIMIT
    assert admission.admit("10.0.0.2") is None


def test_without_limits_every_connection_is_admitted_and_counted() -> None:
    """Having no limit means no refusals; connections are counted all the same."""
    admission = Admission(None, None)
    assert {admission.admit("10.0.0.1") for _ in range(1000)} == {None}
    assert (admission.count, admission.count_of("10.0.0.1")) == (1000, 1000)


def test_a_limit_of_zero_refuses_every_connection() -> None:
    """Zero is a number, not the absence of a limit."""
    assert Admission(0, None).admit("10.0.0.1") is CONNECTION_LIMIT
    assert Admission(None, 0).admit("10.0.0.1") is ADDRESS_LIMIT


def test_connections_without_an_address_count_only_in_the_total() -> None:
    """Connections through a Unix socket have no address, but they are not one client."""
    admission = Admission(3, 1)
    assert [admission.admit(None) for _ in range(4)] == [None, None, None, CONNECTION_LIMIT]
    assert admission.count_of(None) == 3
    admission.release(None)
    assert admission.count == 2


def test_no_count_falls_below_zero() -> None:
    """One release too many, or of an address without connections, changes no count."""
    admission = Admission(None, None)
    admission.admit("10.0.0.1")
    admission.release("10.0.0.2")
    admission.release(None)
    assert admission.count == 1
    admission.release("10.0.0.1")
    admission.release("10.0.0.1")
    assert (admission.count, admission.count_of("10.0.0.1")) == (0, 0)


def test_an_address_without_connections_is_forgotten() -> None:
    """The table of addresses does not grow with churn."""
    admission = Admission(None, 5)
    for number in range(1000):
        address = f"10.0.{number // 250}.{number % 250}"
        admission.admit(address)
        admission.release(address)
    assert admission._by_address == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"),
        ("2001:db8::1", "2001:0DB8:0:0:0::2"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::2"),
        ("testclient", "testclient"),
    ],
)
def test_addresses_of_one_host_count_together(one: str, other: str) -> None:
    """A host is given a whole /64, and an IPv4-mapped address is its IPv4 address."""
    admission = Admission(None, 1)
    assert admission.admit(one) is None
    assert admission.admit(other) is ADDRESS_LIMIT
    admission.release(other)
    assert (admission.count, admission.count_of(one)) == (0, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:2::1"),
        ("192.0.2.7", "192.0.2.8"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8"),
        ("::ffff:192.0.2.7", "::1"),
        ("testclient", "TESTCLIENT"),
        ("", "0.0.0.0"),
        ("not an address", "\ud800"),
    ],
)
def test_addresses_of_different_hosts_count_separately(one: str, other: str) -> None:
    """The limit of one host does not affect the other."""
    admission = Admission(None, 1)
    assert admission.admit(one) is None
    assert admission.admit(other) is None


def test_the_repr_of_an_admission_tells_its_count() -> None:
    admission = Admission(None, None)
    admission.admit(None)
    assert repr(admission) == "<Admission [1 connections]>"


ADDRESSES = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "testclient", None]


@settings(deadline=None)
@given(
    max_connections=st.none() | st.integers(0, 6),
    max_per_address=st.none() | st.integers(0, 3),
    steps=st.lists(st.tuples(st.sampled_from(["admit", "replace", "release"]), st.sampled_from(ADDRESSES))),
)
def test_admission_agrees_with_a_plain_count(
    max_connections: int | None, max_per_address: int | None, steps: list[tuple[str, str | None]]
) -> None:
    """Any order of admissions and releases gives the same answers and counts as a multiset."""
    admission = Admission(max_connections, max_per_address)
    model: Counter[str | None] = Counter()
    for step, address in steps:
        if step == "release":
            admission.release(address)
            model[address] = max(0, model[address] - 1)
        else:
            all_taken = max_connections is not None and model.total() >= max_connections and step == "admit"
            own_taken = address is not None and max_per_address is not None and model[address] >= max_per_address
            expected = CONNECTION_LIMIT if all_taken else ADDRESS_LIMIT if own_taken else None
            assert admission.admit(address, replacing=step == "replace") is expected
            model[address] += expected is None
        assert admission.count == model.total()
        assert {address: admission.count_of(address) for address in ADDRESSES} == {a: model[a] for a in ADDRESSES}


# TokenBucket


@pytest.mark.parametrize(("rate", "burst"), [(1.0, 5), (3.0, 3), (0.1, 7), (1e5, 10)])
def test_a_full_bucket_lets_its_whole_burst_pass(rate: float, burst: int) -> None:
    """Exactly the burst passes at once, whatever time it is."""
    bucket = TokenBucket(rate, burst)
    now = 1_234_567.891
    assert [bucket.take(1, now) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(1, now) == pytest.approx(1 / rate)


def test_a_refused_take_takes_nothing() -> None:
    """Asking repeatedly does not change the answer."""
    bucket = TokenBucket(2.0, 1.0)
    bucket.take(1, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(3)] == [0.5, 0.5, 0.5]
    assert bucket.take(1, 0.5) == 0.0


def test_a_forced_take_goes_into_debt() -> None:
    """Each forced take waits for those before it, so the rate holds."""
    bucket = TokenBucket(2.0, 1.0)
    assert [bucket.take(1, 0.0, force=True) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]
    assert bucket.take(1, 1.5) == 0.5
    assert bucket.take(1, 2.0) == 0.0


def test_a_bucket_fills_no_further_than_its_burst() -> None:
    """A long silence earns one burst, not more."""
    bucket = TokenBucket(10.0, 2.0)
    assert [bucket.take(1, 1000.0) for _ in range(3)] == [0.0, 0.0, 0.1]


def test_an_amount_above_the_burst_passes_when_the_bucket_is_full() -> None:
    """It leaves a debt, and the next amount waits for it."""
    bucket = TokenBucket(10.0, 10.0)
    assert bucket.take(1, 0.0) == 0.0
    assert bucket.take(35, 0.0) == pytest.approx(0.1)
    assert bucket.take(35, 0.1) == 0.0
    assert bucket.take(1, 0.1) == pytest.approx(2.6)
    assert bucket.take(1, 2.7) == 0.0


def test_an_empty_amount_waits_only_for_a_debt() -> None:
    """An amount of 0 passes an empty bucket at once, but not a bucket in debt."""
    bucket = TokenBucket(1.0, 1.0)
    bucket.take(1, 0.0)
    assert bucket.take(0, 0.0) == 0.0
    bucket.take(1, 0.0, force=True)
    assert bucket.take(0, 0.0) == 1.0


def test_a_clock_that_goes_backwards_earns_nothing() -> None:
    """Neither the step back nor passing the same time again adds tokens."""
    bucket = TokenBucket(1.0, 1.0)
    bucket.take(1, 10.0)
    assert bucket.take(1, 5.0) == 1.0
    assert bucket.take(1, 10.0) == 1.0
    assert bucket.take(1, 11.0) == 0.0


@pytest.mark.parametrize("value", [0.0, -1.0, inf, nan])
def test_a_rate_or_burst_must_be_positive_and_finite(value: float) -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match="rate="):
        TokenBucket(value, 1.0)
    with pytest.raises(ValueError, match="burst="):
        TokenBucket(1.0, value)


RATES = st.sampled_from([0.1, 1.0, 3.0, 7.7, 1000.0])
ARRIVALS = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 20)), max_size=60)


@settings(deadline=None)
@given(rate=RATES, burst=st.floats(0.5, 30), arrivals=ARRIVALS)
def test_no_more_passes_than_burst_and_rate_allow(
    rate: float, burst: float, arrivals: list[tuple[float, float]]
) -> None:
    """Up to any arrival, at most the burst, the tokens added since the start, and the debt of one message pass."""
    bucket = TokenBucket(rate, burst)
    now = passed = 0.0
    for gap, amount in arrivals:
        now += gap
        if bucket.take(amount, now) == 0.0:
            passed += amount
            assert passed <= burst + rate * now + max(0.0, amount - burst) + 2e-6 * rate


@settings(deadline=None)
@given(rate=RATES, burst=st.floats(0.5, 30), arrivals=ARRIVALS, start=st.floats(0, 1e7))
def test_an_amount_passes_after_the_wait_that_was_returned(
    rate: float, burst: float, arrivals: list[tuple[float, float]], start: float
) -> None:
    """The wait is neither too short nor, by more than the error of the clock, too long."""
    bucket = TokenBucket(rate, burst)
    now = start
    for gap, amount in arrivals:
        now += gap
        seconds = bucket.take(amount, now)
        if seconds:
            assert bucket.wait(amount, now + seconds - 2e-6) > 0.0 or seconds < 4e-6
            now += seconds
            assert bucket.take(amount, now) == 0.0


# RateLimiter


def test_without_a_limit_on_bytes_only_the_message_rate_counts() -> None:
    """The size of a message does not matter."""
    limiter = RateLimiter(10.0, 2.0, None)
    assert [limiter.check(10**9, 0.0) for _ in range(3)] == [0.0, 0.0, 0.1]


def test_bytes_pass_at_their_rate_when_there_are_few_messages() -> None:
    """The burst of bytes is what one second allows."""
    limiter = RateLimiter(1000.0, 1000.0, 100.0)
    assert [limiter.check(50, 0.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert limiter.check(50, 0.5) == 0.0


def test_a_message_larger_than_one_second_of_bytes_can_pass() -> None:
    """It waits until there is no debt, and the next message waits for it."""
    limiter = RateLimiter(1000.0, 1000.0, 100.0)
    assert limiter.check(300, 0.0) == 0.0
    assert limiter.check(300, 0.0) == 3.0
    assert limiter.check(300, 3.0) == 0.0


def test_a_refusal_by_bytes_does_not_count_against_the_message_limit() -> None:
    """The limit on messages stays as it was."""
    limiter = RateLimiter(1.0, 2.0, 100.0)
    assert limiter.check(100, 0.0) == 0.0
    assert [limiter.check(50, 0.0) for _ in range(5)] == [0.5] * 5
    assert limiter.check(0, 0.0) == 0.0


def test_a_refusal_by_messages_does_not_count_against_the_byte_limit() -> None:
    """The limit on bytes stays as it was."""
    limiter = RateLimiter(1.0, 1.0, 100.0)
    assert limiter.check(0, 0.0) == 0.0
    assert [limiter.check(100, 0.0) for _ in range(5)] == [1.0] * 5
    assert limiter.check(100, 1.0) == 0.0


def test_the_longer_of_the_two_waits_is_returned() -> None:
    """After that wait, the message passes both limits."""
    limiter = RateLimiter(1.0, 1.0, 100.0)
    limiter.check(50, 0.0)
    assert limiter.check(100, 0.0) == 1.0
    limiter = RateLimiter(10.0, 1.0, 100.0)
    limiter.check(100, 0.0)
    assert limiter.check(100, 0.0) == 1.0


@pytest.mark.parametrize("bytes_per_second", [None, 1000.0])
def test_forced_messages_are_delayed_to_the_rate(bytes_per_second: float | None) -> None:
    """With the action "delay", messages are still read, but paced."""
    limiter = RateLimiter(2.0, 1.0, bytes_per_second)
    assert [limiter.check(100, 0.0, force=True) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]


def test_forced_messages_are_delayed_to_the_byte_rate() -> None:
    """The action "delay" applies to bytes too."""
    limiter = RateLimiter(1000.0, 1000.0, 100.0)
    assert [limiter.check(100, 0.0, force=True) for _ in range(3)] == [0.0, 1.0, 2.0]


def test_a_rate_limiter_refuses_zero_for_each_argument() -> None:
    """Each argument is checked, and the error names it."""
    with pytest.raises(ValueError, match="rate="):
        RateLimiter(0.0, 1.0, None)
    with pytest.raises(ValueError, match="burst="):
        RateLimiter(1.0, 0.0, None)
    with pytest.raises(ValueError, match="rate="):
        RateLimiter(1.0, 1.0, 0.0)


def test_the_repr_of_a_rate_limiter_tells_what_is_left() -> None:
    limiter = RateLimiter(10.0, 5.0, None)
    limiter.check(1, 0.0)
    assert repr(limiter) == "<RateLimiter [messages <TokenBucket [4 of 5 | 10 per second]> | bytes None]>"


@settings(deadline=None)
@given(
    calls=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 300), st.booleans()), max_size=60),
    bytes_per_second=st.none() | st.sampled_from([10.0, 100.0]),
)
def test_a_limiter_agrees_with_two_separate_buckets(
    calls: list[tuple[float, int, bool]], bytes_per_second: float | None
) -> None:
    """A message passes exactly when both buckets would let it pass, and is then taken from both."""
    limiter = RateLimiter(3.0, 2.0, bytes_per_second)
    buckets = [TokenBucket(3.0, 2.0)]
    if bytes_per_second is not None:
        buckets.append(TokenBucket(bytes_per_second, bytes_per_second))
    now = 0.0
    for gap, size, force in calls:
        now += gap
        asked = list(zip(buckets, (1, size), strict=False))
        expected = max(bucket.wait(amount, now) for bucket, amount in asked)
        if force or expected == 0.0:
            for bucket, amount in asked:
                bucket.take(amount, now, force=True)
        assert limiter.check(size, now, force) == expected


def test_the_cache_of_addresses_is_bounded() -> None:
    """A long text counts under itself and is never cached."""
    admission = Admission(None, 1)
    _parsed_holder.cache_clear()
    name = "x" * 60_000
    assert admission.admit(name) is None
    assert admission.admit(name) is ADDRESS_LIMIT
    admission.release(name)
    assert (admission.count_of(name), _parsed_holder.cache_info().currsize) == (0, 0)
    for number in range(3000):
        admission.admit(f"10.0.{number // 250}.{number % 250}")
    info = _parsed_holder.cache_info()
    assert info.maxsize is not None
    assert info.currsize <= info.maxsize
