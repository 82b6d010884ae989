"""Closes: what may travel in a close frame, and the table of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close as WireClose

from wsstab import close
from wsstab.close import (
    CLOSES,
    DRAINING,
    DUPLICATE_CLIENT,
    HEARTBEAT_TIMEOUT,
    NEVER_SENT,
    RETURNED,
    VANISHED,
    Cause,
    Close,
    CloseCode,
    clamp_code,
    clamp_reason,
)


@pytest.mark.parametrize(
    ("code", "clamped"),
    [
        (0, 1000),
        (-1, 1011),
        (999, 1011),
        (1000, 1000),
        (1003, 1003),
        (1004, 1011),
        (1005, 1000),
        (1006, 1011),
        (1007, 1007),
        (1014, 1014),
        (1015, 1011),
        (1016, 1011),
        (2999, 1011),
        (3000, 3000),
        (4999, 4999),
        (5000, 1011),
    ],
)
def test_a_code_is_clamped_at_each_border_of_its_ranges(code: int, clamped: int) -> None:
    """RFC 6455 section 7.4.2, both sides of every border."""
    assert clamp_code(code) == clamped


@given(code=st.integers(-10, 70_000))
def test_a_clamped_code_is_one_that_a_client_library_accepts(code: int) -> None:
    """The library raises for a code that must not be in a frame."""
    WireClose(clamp_code(code), "").check()


@pytest.mark.parametrize(
    ("reason", "clamped"),
    [
        (None, ""),
        ("", ""),
        ("bye", "bye"),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 61, "é" * 61),
        ("é" * 62, "é" * 61),
        ("é" * 61 + "x", "é" * 61 + "x"),
        ("é" * 61 + "xé", "é" * 61 + "x"),
        ("😀" * 31, "😀" * 30),
        ("\ud800", "?"),
    ],
)
def test_a_reason_is_cut_at_a_character(reason: str | None, clamped: str) -> None:
    """123 bytes of UTF-8, one more, and what UTF-8 does not have."""
    assert clamp_reason(reason) == clamped


@given(reason=st.text(alphabet=st.characters(), max_size=200))
def test_a_clamped_reason_always_fits_and_begins_as_it_was(reason: str) -> None:
    """Whatever a handler wrote."""
    clamped = clamp_reason(reason)
    assert len(clamped.encode()) <= 123
    assert reason.encode("utf-8", "replace").decode().startswith(clamped)
    assert clamp_reason(clamped) == clamped


def test_the_same_close_with_another_reason() -> None:
    """Everything but the reason stays."""
    maintenance = DRAINING.because("maintenance")
    assert maintenance.reason == "maintenance"
    assert maintenance.because(DRAINING.reason) == DRAINING


def test_the_table_holds_each_close_under_its_name() -> None:
    """A close that is not in the table is in no document and no counter."""
    assert CLOSES["DRAINING"] is DRAINING
    assert CLOSES["RETURNED"] is RETURNED
    assert {name for name, value in vars(close).items() if isinstance(value, Close)} == set(CLOSES)
    assert all(name.isupper() for name in CLOSES)


def test_a_refusal_is_ours_whoever_worded_it() -> None:
    """What ``authorize`` returned is sent by us."""
    refusal = Close(4001, "not today").refusing()
    assert refusal == Close(4001, "not today", Cause.STABILIZER)


@pytest.mark.parametrize("name", sorted(CLOSES))
def test_each_close_of_the_table_can_be_sent(name: str) -> None:
    """Or is 1006, which says that nothing was sent."""
    row = CLOSES[name]
    assert row.code == 1006 or clamp_code(row.code) == row.code
    assert clamp_reason(row.reason) == row.reason
    assert row.cause is Cause.STABILIZER or name in ("RETURNED", "RAISED", "VANISHED", "CANCELLED")


@pytest.mark.parametrize("name", sorted(CLOSES))
def test_each_close_of_the_table_says_when_to_come_back_only_where_that_helps(name: str) -> None:
    """``Retry-After`` belongs to 503 and 429 (RFC 9110, RFC 6585), and to who may come back."""
    row = CLOSES[name]
    assert (row.retry_after is not None) == (row.status in (429, 503))
    assert row.retry_after is None or row.reconnect


def test_a_drain_makes_clients_come_back_and_a_replacement_does_not() -> None:
    """The two that a client library must tell apart."""
    assert (DRAINING.code, DRAINING.reconnect) == (1012, True)
    assert (DUPLICATE_CLIENT.code, DUPLICATE_CLIENT.reconnect) == (4409, False)


def test_what_ends_without_a_frame_is_1006() -> None:
    """And 1006 is never sent."""
    assert VANISHED.code == HEARTBEAT_TIMEOUT.code == CloseCode.ABNORMAL_CLOSURE
    assert CloseCode.ABNORMAL_CLOSURE in NEVER_SENT


def test_a_plain_close_is_a_normal_one_of_the_application() -> None:
    """What ``Close()`` says when it is told nothing."""
    assert Close() == Close(1000, "", Cause.APPLICATION, reconnect=False, status=403, retry_after=None)
