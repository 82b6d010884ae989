"""What travels in wsstab.v1: offers and control messages, by examples and by hypothesis."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsstab.core.protocol import (
    ESCAPE,
    LARGEST_NUMBER,
    Ack,
    Bye,
    Control,
    Gap,
    Hello,
    Offer,
    Outcome,
    Ping,
    Pong,
    ViolationError,
    escaped,
    is_control,
    negotiate,
    parse_control,
    parse_offer,
    unescaped,
)

NEXT = "AAAAAAAAAAAAAAAAAAAA-_"
SESSION = "s" * 48

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A slow machine is no failure."""

names = st.text("abcXYZ019-_", min_size=1, max_size=48)
nexts = st.text("abcXYZ019-_", min_size=22, max_size=22)
numbers = st.integers(0, LARGEST_NUMBER)
attempts = st.integers(1, LARGEST_NUMBER)


# Offers.


@pytest.mark.parametrize(
    ("token", "offer"),
    [
        (f"wsstab.new.1.{NEXT}", Offer(1, NEXT)),
        (f"wsstab.resume.abc.2.0.{NEXT}", Offer(2, NEXT, "abc", 0)),
        ("wsstab.resume.abc.17.4031", Offer(17, None, "abc", 4031)),
    ],
    ids=["new", "resume", "resume or nothing"],
)
def test_the_three_offers(token: str, offer: Offer) -> None:
    """Each is parsed, and built as it was."""
    assert parse_offer(token) == offer
    assert str(offer) == token


@PATIENT
@given(st.builds(Offer, attempts, nexts) | st.builds(Offer, attempts, st.none() | nexts, names, numbers))
def test_every_offer_survives_the_journey(offer: Offer) -> None:
    """No offer is longer than 140 bytes, and all of its characters are allowed in a token (RFC 9110 section 5.6.2)."""
    token = str(offer)
    assert parse_offer(token) == offer
    assert len(token) <= 140
    assert not set(token) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "wsstab.v1",
        "wsstab.new",
        "wsstab.new.1",
        "wsstab.new.1.",
        f"wsstab.new.0.{NEXT}",
        f"wsstab.new.01.{NEXT}",
        f"wsstab.new.-1.{NEXT}",
        f"wsstab.new.1{'0' * 15}.{NEXT}",
        f"wsstab.new.\u0661.{NEXT}",
        f"wsstab.new.1.{NEXT}A",
        f"wsstab.new.1.{NEXT[:-1]}",
        f"wsstab.new.1.{NEXT[:-1]}=",
        f"wsstab.new.1.{NEXT}\n",
        f"wsstab.new.1.{NEXT}.1",
        f"Wsstab.new.1.{NEXT}",
        f"wsstab.resume.{SESSION}s.1.0.{NEXT}",
        f"wsstab.resume..1.0.{NEXT}",
        f"wsstab.resume.abc.1.{NEXT}",
        f"wsstab.resume.abc.1.00.{NEXT}",
        f"wsstab.resume.abc.0.0.{NEXT}",
        f"wsstab.resume.a+c.1.0.{NEXT}",
        f"wsstab.resume.abc.1.0.{NEXT}.",
    ],
)
def test_a_malformed_offer_is_not_an_offer(token: str) -> None:
    """An offer has one spelling: no sign, no leading zero, no padding, ASCII digits only."""
    assert parse_offer(token) is None


@PATIENT
@given(st.text(max_size=200) | st.text("wsstab.newrum0123456789", max_size=200))
def test_no_text_harms_the_parser_of_offers(token: str) -> None:
    """A text that it takes for an offer is spelt as that offer is."""
    offer = parse_offer(token)
    assert offer is None or str(offer) == token


def test_an_offer_does_not_show_its_secrets() -> None:
    """Who has the names has the session, so no log line may hold them."""
    assert repr(parse_offer(f"wsstab.resume.{SESSION}.3.5.{NEXT}")) == "Offer(attempt=3, received=5)"


@pytest.mark.parametrize(
    ("offered", "application", "offer"),
    [
        ([], [], None),
        (["chat"], ["chat"], None),
        (["wsstab.v1", f"wsstab.new.1.{NEXT}"], [], Offer(1, NEXT)),
        (["wsstab.v1", "chat", "v2.chat", f"wsstab.new.1.{NEXT}"], ["chat", "v2.chat"], Offer(1, NEXT)),
        ([f"wsstab.v1, chat,wsstab.new.1.{NEXT}"], ["chat"], Offer(1, NEXT)),
        (["wsstab.v1, chat", f" wsstab.new.1.{NEXT} ,"], ["chat"], Offer(1, NEXT)),
    ],
    ids=["nothing", "plain", "offer", "with subprotocols", "in one piece", "in two pieces"],
)
def test_the_offer_is_separated_from_the_subprotocols(
    offered: list[str], application: list[str], offer: Offer | None
) -> None:
    """The application sees its own subprotocols only."""
    assert negotiate(offered) == (application, offer)


@pytest.mark.parametrize(
    "offered",
    [
        ["chat", f"wsstab.new.1.{NEXT}"],
        ["wsstab.v1", "chat"],
        ["wsstab.v1", "chat", "wsstab.new.1.short"],
        ["wsstab.v1", "chat", f"wsstab.new.1.{NEXT}", f"wsstab.new.2.{NEXT}"],
        ["wsstab.v1", "chat", f"wsstab.new.1.{NEXT}", "wsstab.resume.abc.1"],
    ],
    ids=["without wsstab.v1", "without an offer", "malformed", "two offers", "one of two malformed"],
)
def test_a_client_without_exactly_one_well_formed_offer_is_plain(offered: list[str]) -> None:
    """The application does not see the tokens of this package even then, so that it cannot select one of them."""
    assert negotiate(offered) == (["chat"], None)


# Messages.

HELLO = Hello("abc", Outcome.RESUMED, 3, 0, 25_000, 20_000, 120_000, (64, 65_536), 16_777_216)

hellos = st.builds(
    Hello,
    names,
    st.sampled_from(Outcome),
    numbers,
    st.none() | numbers,
    numbers,
    numbers,
    numbers,
    st.tuples(numbers, numbers),
    st.none() | numbers,
    st.none() | st.text(max_size=50),
    st.none() | st.text(max_size=50),
)
byes = st.builds(
    Bye, st.integers(1000, 4999), st.text(max_size=123), st.sampled_from(["resume", "new", None]), st.none() | numbers
)
counts = st.sampled_from([Ack, Ping, Pong, Gap])


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Ack(17), '{"t":"ack","h":17}'),
        (Ping(0), '{"t":"ping","h":0}'),
        (Pong(4), '{"t":"pong","h":4}'),
        (Gap(2), '{"t":"gap","lost":2}'),
        (Bye(1000), '{"t":"bye","code":1000,"reason":"","again":null}'),
        (
            Bye(1012, "service restart", "new", 1000),
            '{"t":"bye","code":1012,"reason":"service restart","again":"new","retry_after":1000}',
        ),
        (
            HELLO,
            '{"t":"hello","session":"abc","outcome":"resumed","h":3,"lost":0,"ping":25000,"timeout":20000,'
            '"window":120000,"ack":[64,65536],"max":16777216}',
        ),
        (
            Hello("abc", Outcome.FRESH, 0, None, 1, 2, 3, (1, 2), None, "chat", "unknown"),
            '{"t":"hello","session":"abc","outcome":"fresh","h":0,"lost":null,"ping":1,"timeout":2,"window":3,'
            '"ack":[1,2],"max":null,"protocol":"chat","why":"unknown"}',
        ),
    ],
    ids=["ack", "ping", "pong", "gap", "bye", "bye and come back", "hello", "hello with all fields"],
)
def test_each_message_as_text(message: Control, text: str) -> None:
    """U+001E, then one JSON object."""
    assert str(message) == ESCAPE + text
    assert parse_control(ESCAPE + text) == message


@PATIENT
@given(hellos | byes | st.builds(lambda kind, number: kind(number), counts, numbers))
def test_every_message_survives_the_journey(message: Control) -> None:
    """What one side builds, the other understands."""
    assert is_control(str(message))
    assert parse_control(str(message)) == message


def test_a_hello_does_not_show_the_name_of_its_session() -> None:
    """Who has the name has the session."""
    assert "abc" not in repr(HELLO)


@pytest.mark.parametrize("text", ['{"t":"later"}', '{"t":"later","h":-1}', '{"t":""}'])
def test_a_message_of_an_unknown_type_is_ignored(text: str) -> None:
    """A newer version may send it."""
    assert parse_control(ESCAPE + text) is None


def test_an_unknown_key_is_ignored() -> None:
    """A newer version may send it."""
    assert parse_control(ESCAPE + '{"later":[1],"h":3,"t":"ack"}') == Ack(3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"ack"',
        "{}",
        '{"t":1}',
        '{"t":null}',
        '{"t":["ack"]}',
        '{"t":"ack"}',
        '{"t":"ack","h":null}',
        '{"t":"ack","h":-1}',
        '{"t":"ack","h":1.0}',
        '{"t":"ack","h":1e3}',
        '{"t":"ack","h":true}',
        '{"t":"ack","h":"1"}',
        '{"t":"ack","h":NaN}',
        '{"t":"ack","h":Infinity}',
        '{"t":"ack","h":1000000000000000}',
        '{"t":"ack","h":1}}',
        '{"t":"gap"}',
        '{"t":"gap","lost":-1}',
        '{"t":"bye"}',
        '{"t":"bye","code":"1000"}',
        '{"t":"bye","code":1000,"reason":7}',
        '{"t":"bye","code":1000,"again":"maybe"}',
        '{"t":"bye","code":1000,"again":[]}',
        '{"t":"bye","code":1000,"retry_after":-1}',
        "[" * 4000,
        '{"t":' * 800,
    ],
)
def test_a_malformed_message_violates_the_protocol(text: str) -> None:
    """The peer does not speak the protocol; its carrier is closed with 1002."""
    with pytest.raises(ViolationError):
        parse_control(ESCAPE + text)


@pytest.mark.parametrize(
    "change",
    [
        {"session": None},
        {"session": ""},
        {"session": "s" * 49},
        {"session": "a.b"},
        {"outcome": None},
        {"outcome": "stale"},
        {"outcome": []},
        {"h": None},
        {"lost": "1"},
        {"ping": -1},
        {"timeout": None},
        {"window": 0.5},
        {"ack": None},
        {"ack": [1]},
        {"ack": [1, 2, 3]},
        {"ack": [1, "2"]},
        {"ack": {"0": 1, "1": 2}},
        {"max": "1"},
        {"protocol": 1},
        {"why": []},
    ],
    ids=str,
)
def test_each_field_of_a_hello_is_checked(change: dict[str, object]) -> None:
    """A client does not go on with a server that it does not understand."""
    message = {**json.loads(str(HELLO)[1:]), **change}
    with pytest.raises(ViolationError):
        parse_control(ESCAPE + json.dumps(message))


@pytest.mark.parametrize("filling", ["x", "\u20ac"])
def test_a_message_has_at_most_4_kib(filling: str) -> None:
    """As UTF-8, in which a character may have several bytes."""
    beginning = f'{ESCAPE}{{"t":"ack","h":1,"x":"'
    room = 4096 - len(beginning) - 2
    message = f'{beginning}{filling * (room // len(filling.encode()))}"}}'
    assert parse_control(message) == Ack(1)
    with pytest.raises(ViolationError, match="4 KiB"):
        parse_control(message[:-2] + filling + " " + message[-2:])


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=6,
)
almost_messages = st.builds(
    lambda kind, fields: json.dumps({"t": kind, **fields}),
    st.sampled_from(["hello", "ack", "ping", "pong", "gap", "bye", "later"]) | json_values,
    st.dictionaries(
        st.sampled_from(
            [
                "session",
                "outcome",
                "h",
                "lost",
                "ping",
                "timeout",
                "window",
                "ack",
                "max",
                "protocol",
                "why",
                "code",
                "reason",
                "again",
                "retry_after",
            ]
        ),
        json_values | numbers | names | st.sampled_from(["fresh", "resumed", "new"]) | st.just([1, 2]),
    ),
)


@PATIENT
@given(st.text(max_size=100) | json_values.map(json.dumps) | almost_messages)
def test_no_text_harms_the_parser_of_messages(text: str) -> None:
    """It returns a message, or nothing, or raises the one error."""
    try:
        message = parse_control(ESCAPE + text)
    except ViolationError:
        return
    assert message is None or parse_control(str(message)) == message


# Data.


@pytest.mark.parametrize(
    ("data", "travels"),
    [("", ""), ("hello", "hello"), ("\x1e", "\x1e\x1e"), ("\x1e{}", "\x1e\x1e{}"), ("\x1e\x1e", "\x1e\x1e\x1e")],
)
def test_data_that_begins_with_the_escape_gets_one_more(data: str, travels: str) -> None:
    """Every other text travels as it is."""
    assert escaped(data) == travels
    assert unescaped(travels) == data
    assert not is_control(travels)


@PATIENT
@given(st.text() | st.text(ESCAPE + "a"))
def test_no_data_is_taken_for_a_control_message(data: str) -> None:
    """Whatever an application sends arrives as it was."""
    assert not is_control(escaped(data))
    assert unescaped(escaped(data)) == data
