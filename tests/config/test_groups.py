"""Option groups: their defaults, their checks, and the events of the hooks."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from wsstab import events
from wsstab.config import (
    CompressionMode,
    Drain,
    HeartbeatType,
    Hooks,
    Inbound,
    MemoryEvictionPolicy,
    Outbound,
    RateLimit,
    SlowConsumerPolicy,
)
from wsstab.config import groups as options
from wsstab.config.groups import MIB

GROUPS = [Inbound(), Outbound(), RateLimit(1), Drain(), Hooks()]


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (HeartbeatType, ["ping", "custom", "off"]),
        (CompressionMode, ["deflate", "none"]),
        (MemoryEvictionPolicy, ["lru", "fifo", "oldest", "largest"]),
        (SlowConsumerPolicy, ["close", "block", "drop_oldest", "drop_newest", "latest"]),
    ],
)
def test_a_choice_behaves_like_its_word(choices: Any, words: list[str]) -> None:
    """It is compared, printed, formatted and written to JSON as that word, on every version of Python."""
    members = list(choices)
    assert members == words
    assert [str(member) for member in members] == words
    assert [f"{member}" for member in members] == words
    assert json.loads(json.dumps(members)) == words
    assert [choices[word.upper()] for word in words] == members


def test_the_defaults_are_the_documented_ones() -> None:
    """The names, the values and their order are documented."""
    assert dataclasses.asdict(Inbound()) == {"max_messages": 256, "max_bytes": 1048576, "message_timeout": None}
    assert dataclasses.asdict(Outbound()) == {
        "max_bytes": 1048576,
        "max_messages": 1000,
        "send_timeout": 10.0,
        "policy": "close",
    }
    assert dataclasses.asdict(RateLimit(10)) == {
        "messages_per_second": 10.0,
        "burst": 10,
        "bytes_per_second": None,
        "action": "close",
    }
    assert dataclasses.asdict(Drain()) == {
        "timeout": 20.0,
        "batch_size": 100,
        "interval": 0.1,
        "code": 1012,
        "reason": "service restart",
        "handle_signals": True,
        "endpoint_token": None,
    }


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: type(group).__name__)
def test_a_group_is_frozen_and_each_field_is_checked_and_documented(group: Any) -> None:
    """A field without a check would accept any value."""
    names = [field.name for field in dataclasses.fields(group)]
    assert list(group.CHECKS) == names
    assert [name for name in names if f"{name}: " not in str(type(group).__doc__)] == []
    for name in names:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(group, name, getattr(group, name))


def test_a_text_becomes_a_member_of_its_enum() -> None:
    """Therefore ``.value`` works wherever the option is read."""
    assert Outbound(policy="latest").policy is SlowConsumerPolicy.LATEST
    assert Outbound(policy=SlowConsumerPolicy.BLOCK).policy is SlowConsumerPolicy.BLOCK


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (Inbound, {"max_messages": 0}, "Inbound.max_messages=0: must be a whole number of messages"),
        (Inbound, {"max_bytes": None}, "Inbound.max_bytes=None: must be a whole number of bytes"),
        (Outbound, {"max_bytes": 0}, "Outbound.max_bytes=0: must be a whole number of bytes"),
        (Outbound, {"max_messages": "1"}, "Outbound.max_messages='1': must be a whole number"),
        (Outbound, {"send_timeout": 0}, "Outbound.send_timeout=0: must be a number of seconds greater than 0"),
        (Outbound, {"send_timeout": None}, "Outbound.send_timeout=None: must be"),
        (Outbound, {"policy": "drop"}, "Outbound.policy='drop': must be one of close, block, drop_oldest"),
        (RateLimit, {"messages_per_second": 0}, "RateLimit.messages_per_second=0: must be a number of messages"),
        (RateLimit, {"messages_per_second": 1, "burst": 0}, "RateLimit.burst=0: must be a whole number"),
        (RateLimit, {"messages_per_second": 1, "bytes_per_second": 0}, "RateLimit.bytes_per_second=0: must be"),
        (RateLimit, {"messages_per_second": 1, "action": "block"}, "must be one of close, delay, drop"),
        (Drain, {"timeout": -1}, "Drain.timeout=-1: must be a number of seconds that is 0 or more"),
        (Drain, {"timeout": None}, "Drain.timeout=None: must be"),
        (Drain, {"batch_size": 0}, "Drain.batch_size=0: must be a whole number of connections"),
        (Drain, {"interval": -0.1}, "Drain.interval=-0.1: must be"),
        (Drain, {"code": 1006}, "Drain.code=1006: must be a close code an endpoint may send"),
        (Drain, {"reason": "x" * 124}, "must be a text of at most 123 bytes of UTF-8"),
        (Drain, {"handle_signals": 1}, "Drain.handle_signals=1: must be True or False"),
        (Drain, {"endpoint_token": ""}, "Drain.endpoint_token=<not shown>: must be a text that is not empty"),
        (Drain, {"endpoint_token": []}, "Drain.endpoint_token=<not shown>: must be"),
        (Hooks, {"on_connect": 5}, "Hooks.on_connect=5: must be a function of an event; or None for nobody"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_when_the_group_is_made(
    make: Any, fields: dict[str, Any], message: str
) -> None:
    """The error gives the group, the field, the value and what is allowed."""
    with pytest.raises(ValueError) as caught:
        make(**fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(("rate", "burst"), [(0.1, 1), (1, 1), (1.5, 2), (100, 100)])
def test_the_default_burst_is_what_one_second_allows(rate: float, burst: int) -> None:
    """It is rounded up, so it is at least one message."""
    assert RateLimit(rate).burst == RateLimit(rate, burst=None).burst == burst
    assert RateLimit(rate, burst=7).burst == 7


@pytest.mark.parametrize(
    "outbound",
    [Outbound(max_bytes=None), Outbound(max_messages=None)],
)
def test_one_of_the_outbound_bounds_may_be_off(outbound: Outbound) -> None:
    """The other bound still holds."""
    assert (outbound.max_bytes, outbound.max_messages) in [(None, 1000), (MIB, None)]


def test_the_outbound_bounds_may_not_both_be_off() -> None:
    """No queue is unbounded."""
    with pytest.raises(ValueError, match=r"Outbound\.max_bytes=None, .*max_messages=None: must not both be None"):
        Outbound(max_bytes=None, max_messages=None)


def test_hooks_without_callbacks_give_no_pairs() -> None:
    """Events without a listener need not be made."""
    assert list(Hooks().pairs()) == []


def test_each_hook_is_paired_with_its_event() -> None:
    """There is one hook for each class of events, in the order of the fields."""
    names = [field.name for field in dataclasses.fields(Hooks)]
    hooks = Hooks(**{name: (lambda event, name=name: name) for name in names})
    pairs = list(hooks.pairs())
    assert [callback(None) for _, callback in pairs] == names
    assert [event_class for event_class, _ in pairs] == list(Hooks.EVENTS.values())
    concrete = {name for name in events.__all__ if name not in ("Event", "EventCallback")}
    assert {event_class.__name__ for event_class, _ in pairs} == concrete


def test_hooks_with_similar_names_get_the_right_events() -> None:
    """These are the pairs that are easy to confuse."""

    async def callback(event: events.ConnectionClosed) -> None:
        """Whether it is plain or async makes no difference here."""

    assert list(Hooks(on_disconnect=callback).pairs()) == [(events.ConnectionClosed, callback)]
    assert Hooks.EVENTS["on_connect"] is events.ConnectionOpened
    assert Hooks.EVENTS["on_identify"] is events.ConnectionIdentified
    assert Hooks.EVENTS["on_evicted"] is events.ConnectionEvicted


def test_every_public_name_exists() -> None:
    """``__all__`` is in alphabetical order."""
    assert options.__all__ == sorted(options.__all__)
    assert [name for name in options.__all__ if not hasattr(options, name)] == []
