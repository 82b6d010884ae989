"""How long a client waits for a sign of life."""

from __future__ import annotations

import pytest

from wsstab.client.heartbeat import Heartbeat, Timeouts


def watching(ping: int = 20_000, timeout: int = 10_000) -> Heartbeat:
    """A heartbeat that watches a carrier since 100 s, and gives 5 s for a probe."""
    heartbeat = Heartbeat(5.0)
    heartbeat.watch(100.0, ping, timeout)
    return heartbeat


def test_every_message_is_a_sign_of_life() -> None:
    """The deadline is ping and timeout after the last one."""
    heartbeat = watching()
    assert heartbeat.deadline == 130
    heartbeat.hear(110.0)
    assert heartbeat.deadline == 140


def test_a_server_that_never_pings_has_no_deadline_but_can_be_probed() -> None:
    """A pong ends the probe, and the deadline with it."""
    heartbeat = watching(ping=0)
    assert heartbeat.deadline is None
    heartbeat.ping(100.0)
    heartbeat.probe(100.0)
    assert heartbeat.deadline == 105
    heartbeat.pong(101.0)
    assert heartbeat.deadline is None


def test_something_in_particular_has_its_own_deadline() -> None:
    """What was asked before does not matter any more."""
    heartbeat = watching()
    heartbeat.ping(100.0)
    heartbeat.expect(101.0, 10.0)
    assert (heartbeat.deadline, heartbeat.waits_for_pong) == (111, False)


def test_a_probe_ends_with_the_pong_and_not_with_a_message() -> None:
    """A message prolongs it."""
    heartbeat = watching()
    heartbeat.ping(100.0)
    heartbeat.probe(100.0)
    heartbeat.hear(104.0)
    assert heartbeat.deadline == 109
    heartbeat.pong(104.5)
    assert (heartbeat.deadline, heartbeat.latency, heartbeat.waits_for_pong) == (134.5, 4.5, False)


def test_a_pong_without_a_ping_measures_nothing() -> None:
    """And moves nothing: the message was counted as one already."""
    heartbeat = watching()
    heartbeat.pong(101.0)
    assert (heartbeat.deadline, heartbeat.latency) == (130, None)


def test_a_process_overslept_if_its_timer_is_far_too_late_for_the_first_time() -> None:
    """During a probe it is the server that is late."""
    heartbeat = watching()
    assert not heartbeat.overslept(134.9)
    assert heartbeat.overslept(135.0)
    heartbeat.probe(135.0)
    assert not heartbeat.overslept(1000.0)
    heartbeat.stop()
    assert not heartbeat.overslept(1000.0)


@pytest.mark.parametrize("name", ["handshake", "hello", "probe", "close"])
def test_a_time_that_makes_no_sense_is_refused(name: str) -> None:
    """The error names it."""
    with pytest.raises(ValueError, match=f"^{name}=0"):
        Timeouts(**{name: 0})


def test_times_may_be_fractions_of_a_second() -> None:
    """Whatever is above 0."""
    assert Timeouts(probe=0.1) == Timeouts(10.0, 10.0, 0.1, 10.0)
