"""Reconnect tokens: genuine, expired, used and forged ones, and values that are no token at all."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import Signer

from wsstab.core.token import MAX_TOKEN_LENGTH, SALT, ReconnectTokens
from wsstab.errors import InvalidTokenError, TokenExpiredError

NOW = 1_700_000_000_000
HOUR = 3_600_000


def make(*keys: str, max_used: int = 100) -> ReconnectTokens:
    """An issuer of tokens that last an hour."""
    return ReconnectTokens(keys or ("key",), HOUR, max_used)


def why(tokens: ReconnectTokens, token: object, now_ms: int = NOW) -> str:
    """The reason for which a token is refused."""
    with pytest.raises(InvalidTokenError) as caught:
        tokens.validate(token, now_ms)  # type: ignore[arg-type]
    return caught.value.why


def signed(text: str, key: str = "key") -> str:
    """A text signed by somebody who shares the key, but not our format."""
    signer = Signer(key, salt=SALT, key_derivation="hmac", digest_method=hashlib.sha256)
    return signer.sign(text).decode("ascii")


@pytest.mark.parametrize(
    ("keys", "ttl_ms", "max_used", "message"),
    [
        ([], 1, 1, "secret key"),
        ([""], 1, 1, "secret key"),
        ("", 1, 1, "secret key"),
        (["new", ""], 1, 1, "secret key"),
        (["key"], -1, 1, "ttl_ms=-1"),
        (["key"], 1, 0, "max_used=0"),
    ],
)
def test_bad_arguments_are_refused(keys: list[str], ttl_ms: int, max_used: int, message: str) -> None:
    """The most important one is an empty key: anybody could sign with it."""
    with pytest.raises(ValueError, match=message):
        ReconnectTokens(keys, ttl_ms, max_used)


def test_a_token_has_four_parts() -> None:
    """They are a client id, a nonce of 128 bits, an expiry and a signature of 256 bits, without padding."""
    name, nonce, expiry_ms, signature = make().issue("ann", NOW).split(".")
    assert name == urlsafe_b64encode(b"ann").decode()
    assert re.fullmatch(r"[\w-]{22}", nonce, re.ASCII)
    assert int(expiry_ms) == NOW + HOUR
    assert re.fullmatch(r"[\w-]{43}", signature, re.ASCII)


def test_every_token_is_different() -> None:
    """The nonce makes two tokens of the same moment differ, and both are valid."""
    tokens = make()
    first, second = tokens.issue("ann", NOW), tokens.issue("ann", NOW)
    assert first != second
    assert tokens.validate(first, NOW) == tokens.validate(second, NOW) == "ann"


def test_a_token_can_be_used_once() -> None:
    """The second time, it is refused as used."""
    tokens = make()
    token = tokens.issue("ann", NOW)
    assert tokens.validate(token, NOW) == "ann"
    assert len(tokens._used) == 1
    assert why(tokens, token) == "used"
    assert len(tokens._used) == 1


def test_a_token_expires_to_the_millisecond() -> None:
    """It is valid one millisecond before its expiry, and no longer at its expiry."""
    tokens = make()
    token = tokens.issue("ann", NOW, ttl_ms=5)
    with pytest.raises(TokenExpiredError) as caught:
        tokens.validate(token, NOW + 5)
    assert caught.value.expired_ms == 0
    with pytest.raises(TokenExpiredError) as caught:
        tokens.validate(token, NOW + 12)
    assert caught.value.expired_ms == 7
    assert len(tokens._used) == 0
    assert tokens.validate(token, NOW + 4) == "ann"


def test_a_lifetime_of_zero_is_not_replaced_by_the_default() -> None:
    """A token with ``ttl_ms=0`` expires at once."""
    tokens = make()
    with pytest.raises(TokenExpiredError):
        tokens.validate(tokens.issue("ann", NOW, ttl_ms=0), NOW)


def test_a_used_token_that_has_expired_is_reported_as_expired() -> None:
    """The reason does not depend on when the table of used tokens was swept."""
    tokens = make()
    token = tokens.issue("ann", NOW)
    tokens.validate(token, NOW)
    with pytest.raises(TokenExpiredError):
        tokens.validate(token, NOW + HOUR)
    tokens.sweep(NOW + HOUR)
    with pytest.raises(TokenExpiredError):
        tokens.validate(token, NOW + HOUR)


def test_another_process_with_the_same_key_accepts_a_token() -> None:
    """A client may reconnect to another worker."""
    assert make().validate(make().issue("ann", NOW), NOW) == "ann"


def test_a_process_with_another_key_refuses_a_token() -> None:
    """The signature is different."""
    assert why(make("other"), make().issue("ann", NOW)) == "signature"


def test_a_single_string_counts_as_one_key() -> None:
    """It is not split into letters, which anybody could guess."""
    token = ReconnectTokens("secret", HOUR).issue("ann", NOW)
    assert make("secret").validate(token, NOW) == "ann"
    assert all(why(make(letter), token) == "signature" for letter in "secret")


def test_keys_can_be_rotated() -> None:
    """The first key is the newest and signs; older ones are still accepted; one that was removed is not."""
    old, both, new = make("old"), make("new", "old"), make("new")
    assert both.validate(old.issue("ann", NOW), NOW) == "ann"
    assert new.validate(both.issue("ann", NOW), NOW) == "ann"
    assert why(old, both.issue("ann", NOW)) == "signature"


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(0, 2**50), st.integers(1, 2**40), st.data())
def test_a_token_gives_back_any_client_id(client_id: str, now_ms: int, ttl_ms: int, data: st.DataObject) -> None:
    """It does so once, at any time until it expires."""
    tokens = make()
    token = tokens.issue(client_id, now_ms, ttl_ms)
    later = now_ms + data.draw(st.integers(0, ttl_ms - 1))
    assert token.count(".") == 3
    assert tokens.validate(token, later) == client_id
    assert why(tokens, token, later) == "used"


@settings(deadline=None)
@given(st.text(st.characters(categories=["Cs"]), min_size=1, max_size=5))
def test_a_token_gives_back_a_client_id_with_lone_surrogates(client_id: str) -> None:
    """A client id may contain what UTF-8 cannot encode."""
    tokens = make()
    assert tokens.validate(tokens.issue(client_id, NOW), NOW) == client_id


@settings(deadline=None)
@given(st.data())
def test_a_token_with_one_character_changed_is_refused(data: st.DataObject) -> None:
    """It may be any but the last character: two of the six bits of that one have no meaning."""
    tokens = make()
    token = tokens.issue("ann", NOW)
    place = data.draw(st.integers(0, len(token) - 2))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))
    assert why(tokens, token[:place] + other + token[place + 1 :]) in ("signature", "malformed")


@settings(deadline=None)
@given(
    st.one_of(st.text(), st.text("abc.-_=0", max_size=80), st.binary(), st.none(), st.integers(), st.lists(st.none()))
)
def test_any_value_that_is_not_a_token_is_refused_with_a_reason(token: object) -> None:
    """No input raises any other error."""
    assert why(make(), token) in ("malformed", "signature")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "...",
        "a.b.c.d",
        "a.b.c",
        "a.b.c.d.e",
        "\ud800.b.c.d",
        "é.b.c.d",
        "a.b.c.\x00",
        b"a.b.c.d",
        "a." * MAX_TOKEN_LENGTH,
        "." * 3 + "a" * 10_000_000,
    ],
)
def test_known_kinds_of_forged_tokens_are_refused(token: object) -> None:
    """They have a wrong type, alphabet, number of parts, size or signature."""
    assert why(make(), token) == ("signature" if token == "a.b.c.d" else "malformed")


@pytest.mark.parametrize(
    "text",
    ["YW5u.nonce.soon", "YW5u.nonce.", "a.nonce.1", "_w.nonce.1", "YW5u.nonce.1.5"],
)
def test_a_signed_text_in_another_format_is_malformed(text: str) -> None:
    """The signature is genuine, but the expiry, the name or the number of parts cannot be read."""
    assert why(make(), signed(text)) == "malformed"


@pytest.mark.parametrize("text", ["nonce.1", "YW5u"])
def test_a_signed_text_with_too_few_parts_is_malformed(text: str) -> None:
    """A genuine signature does not make up for missing parts."""
    assert why(make(), signed(text)) == "malformed"


def test_the_longest_client_id_makes_a_valid_token() -> None:
    """Any token that is issued can be validated; a longer client id is refused when it is issued."""
    tokens = make()
    longest = "a" * 3011
    token = tokens.issue(longest, NOW)
    assert MAX_TOKEN_LENGTH - 3 <= len(token) <= MAX_TOKEN_LENGTH
    assert tokens.validate(token, NOW) == longest
    with pytest.raises(ValueError, match="3014 characters"):
        tokens.issue("a" * 3014, NOW)


def test_a_token_cannot_expire_before_1970() -> None:
    """An expiry is written without a sign."""
    with pytest.raises(ValueError, match="expiry -1"):
        make().issue("ann", 0, ttl_ms=-1)


def test_sweep_forgets_only_expired_tokens() -> None:
    """Expiries may come in any order; the call returns how many tokens it forgot."""
    tokens = make()
    for ttl_ms in (30, 10, 20):
        tokens.validate(tokens.issue("ann", NOW, ttl_ms), NOW)
    assert tokens.sweep(NOW + 9) == 0
    assert tokens.sweep(NOW + 20) == 2
    assert len(tokens._used) == 1
    assert tokens.sweep(NOW + 30) == 1
    assert tokens.sweep(NOW + 30) == len(tokens._used) == 0


def test_a_full_table_refuses_every_token() -> None:
    """A token that cannot be remembered could be used twice, so it is refused, and no other is forgotten for it."""
    tokens = make(max_used=2)
    used = [tokens.issue("ann", NOW) for _ in range(2)]
    for token in used:
        tokens.validate(token, NOW)
    late = tokens.issue("bob", NOW)
    assert why(tokens, late) == "full"
    assert why(tokens, used[0]) == "used"
    assert len(tokens._used) == 2


def test_a_full_table_is_swept_before_it_refuses_a_token() -> None:
    """Expired tokens make room without waiting for the next regular sweep."""
    tokens = make(max_used=2)
    tokens.validate(tokens.issue("ann", NOW, 10), NOW)
    tokens.validate(tokens.issue("ann", NOW), NOW)
    late = tokens.issue("bob", NOW)
    assert why(tokens, late, NOW + 9) == "full"
    assert tokens.validate(late, NOW + 10) == "bob"
    assert len(tokens._used) == 2


def test_a_used_token_stays_expired_when_the_clock_is_set_back() -> None:
    """It stays so although the table forgot it at its expiry."""
    tokens = make()
    token = tokens.issue("ann", NOW)
    tokens.validate(token, NOW)
    assert tokens.sweep(NOW + HOUR) == 1
    with pytest.raises(TokenExpiredError):
        tokens.validate(token, NOW)
    tokens.sweep(NOW)
    with pytest.raises(TokenExpiredError):
        tokens.validate(token, NOW)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.booleans()), max_size=30))
def test_the_table_of_used_tokens_agrees_with_a_model(steps: list[tuple[int, int, bool]]) -> None:
    """Time passes, tokens of various lifetimes are used twice, and sweeps happen in between."""
    tokens, now = make(max_used=5), NOW
    live: list[int] = []
    for ttl_ms, passed, sweep in steps:
        now += passed
        token = tokens.issue("ann", now, ttl_ms + 1)
        if sweep or len(live) == 5:
            tokens.sweep(now)
            live = [expiry_ms for expiry_ms in live if expiry_ms > now]
        if len(live) == 5:
            assert why(tokens, token, now) == "full"
        else:
            assert tokens.validate(token, now) == "ann"
            assert why(tokens, token, now) == "used"
            live.append(now + ttl_ms + 1)
        assert len(tokens._used) == len(live)
