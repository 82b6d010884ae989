"""`TokenDesk`: reconnect tokens with a clock, keys, events and one warning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from wsstab import InvalidTokenError, TokenExpiredError, TokenIssued, TokenRefused, TokenUsed, WebSocketConfig
from wsstab.core.token import ReconnectTokens
from wsstab.events import Event
from wsstab.hub.tokens import TokenDesk, keys_of, now_ms

NOW_MS = 1_700_000_000_000


class Desk:
    """A desk whose clock the test sets, and the events that it emitted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.now_ms = NOW_MS
        self.events: list[Event] = []
        monkeypatch.setattr("wsstab.hub.tokens.now_ms", lambda: self.now_ms)
        self.desk = TokenDesk(WebSocketConfig(**options), self.events.append)


def test_a_token_is_issued_used_once_and_refused_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step emits an event, and no event contains the token."""
    at = Desk(monkeypatch, secret_key="key")
    token = at.desk.issue("ann")
    assert at.desk.validate(token) == "ann"
    with pytest.raises(InvalidTokenError) as caught:
        at.desk.validate(token)
    assert caught.value.why == "used"
    assert at.events == [TokenIssued("ann"), TokenUsed("ann"), TokenRefused("used")]
    assert not any(token in repr(event) for event in at.events)


def test_a_token_expires_to_the_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is valid one millisecond before its expiry, and invalid at that moment."""
    at = Desk(monkeypatch, secret_key="key", reconnect_token_ttl=timedelta(milliseconds=1500))
    early, late = at.desk.issue("ann"), at.desk.issue("bob")
    at.now_ms += 1499
    assert at.desk.validate(early) == "ann"
    at.now_ms += 1
    with pytest.raises(TokenExpiredError):
        at.desk.validate(late)
    assert at.events[-1] == TokenRefused("expired")


def test_a_lifetime_below_a_millisecond_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the token would never be valid."""
    at = Desk(monkeypatch, secret_key="key", reconnect_token_ttl=timedelta(microseconds=5))
    assert at.desk.validate(at.desk.issue("ann")) == "ann"


@pytest.mark.parametrize("token", ["", "a.b.c", "YW5u.nonce.1.signature", "x" * 5000, "é.b.c.d"])
def test_a_malformed_or_forged_token_is_refused_with_an_event(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """Clients may send anything."""
    at = Desk(monkeypatch, secret_key="key")
    with pytest.raises(InvalidTokenError) as caught:
        at.desk.validate(token)
    assert at.events == [TokenRefused(caught.value.why)]
    assert caught.value.why in ("malformed", "signature")


def test_without_a_configured_key_each_process_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of other processes are refused."""
    token = Desk(monkeypatch).desk.issue("ann")
    with pytest.raises(InvalidTokenError, match="signature"):
        Desk(monkeypatch).desk.validate(token)


def test_without_a_configured_key_the_first_token_causes_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning does not come earlier, since most applications need no tokens."""
    at = Desk(monkeypatch)
    assert caplog.records == []
    at.desk.issue("ann")
    at.desk.issue("bob")
    (record,) = caplog.records
    assert (record.levelname, "no secret_key is set" in record.message) == ("WARNING", True)


def test_with_a_shared_key_other_processes_accept_the_token(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no warning, and the processes share nothing but the key."""
    token = Desk(monkeypatch, secret_key="shared").desk.issue("ann")
    assert Desk(monkeypatch, secret_key="shared").desk.validate(token) == "ann"
    assert caplog.records == []


def test_keys_can_be_rotated_while_old_tokens_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest key signs; all of them verify."""
    old = Desk(monkeypatch, secret_key="old").desk.issue("ann")
    rotated = Desk(monkeypatch, secret_key=["new", "old"])
    assert rotated.desk.validate(old) == "ann"
    token = rotated.desk.issue("bob")
    assert Desk(monkeypatch, secret_key="new").desk.validate(token) == "bob"
    with pytest.raises(InvalidTokenError):
        Desk(monkeypatch, secret_key="old").desk.validate(token)


def test_with_tokens_switched_off_both_methods_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the option, and no event is emitted."""
    at = Desk(monkeypatch, secret_key="key", enable_reconnect=False)
    with pytest.raises(InvalidTokenError, match="enable_reconnect=False"):
        at.desk.issue("ann")
    with pytest.raises(InvalidTokenError, match="enable_reconnect=False"):
        at.desk.validate("any")
    assert at.events == []


def test_a_sweep_forgets_used_tokens_that_have_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not become valid again."""
    at = Desk(monkeypatch, secret_key="key", reconnect_token_ttl=timedelta(seconds=1))
    token = at.desk.issue("ann")
    at.desk.validate(token)
    at.desk.sweep()
    assert len(at.desk._tokens._used) == 1
    at.now_ms += 1000
    at.desk.sweep()
    assert len(at.desk._tokens._used) == 0
    with pytest.raises(TokenExpiredError):
        at.desk.validate(token)


def test_validation_fails_closed_when_too_many_used_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event gives the reason."""
    at = Desk(monkeypatch, secret_key="key")
    at.desk._tokens = ReconnectTokens(["key"], 60_000, max_used=1)
    at.desk.validate(at.desk.issue("ann"))
    with pytest.raises(InvalidTokenError, match="full"):
        at.desk.validate(at.desk.issue("bob"))
    assert at.events[-1] == TokenRefused("full")


def test_the_keys_of_a_configuration_are_a_list_newest_first() -> None:
    """A string is one key. Without a configured key there is a random one that nobody can guess."""
    assert keys_of(WebSocketConfig(secret_key="one")) == ["one"]
    assert keys_of(WebSocketConfig(secret_key=("new", "old"))) == ["new", "old"]
    (first,), (second,) = keys_of(WebSocketConfig()), keys_of(WebSocketConfig())
    assert first != second
    assert len(first) >= 32


def test_the_clock_is_posix_time_in_milliseconds() -> None:
    """All processes must agree on it."""
    import time

    assert abs(now_ms() - time.time() * 1000) < 5000
