"""Close codes and reasons: what may travel in a close frame, and the table of this package's own closes."""

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
    """RFC 6455 section 7.4.2, with both sides of every border."""
    assert clamp_code(code) == clamped


@given(code=st.integers(-10, 70_000))
def test_a_clamped_code_is_accepted_by_a_client_library(code: int) -> None:
    """The websockets library raises for a code that must not travel in a frame."""
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
def test_a_reason_is_cut_between_characters_to_fit_123_bytes(reason: str | None, clamped: str) -> None:
    """RFC 6455 section 5.5 leaves 123 bytes of UTF-8; a lone surrogate is not UTF-8 and becomes a question mark."""
    assert clamp_reason(reason) == clamped


@given(reason=st.text(alphabet=st.characters(), max_size=200))
def test_a_clamped_reason_fits_and_is_a_prefix_of_the_original(reason: str) -> None:
    """For whatever text a handler passes; clamping twice changes nothing more."""
    clamped = clamp_reason(reason)
    assert len(clamped.encode()) <= 123
    assert reason.encode("utf-8", "replace").decode().startswith(clamped)
    assert clamp_reason(clamped) == clamped


def test_because_changes_only_the_reason_of_a_close() -> None:
    """Going back to the first reason gives an equal close."""
    maintenance = DRAINING.because("maintenance")
    assert maintenance.reason == "maintenance"
    assert maintenance.because(DRAINING.reason) == DRAINING


def test_the_table_holds_each_close_under_its_name() -> None:
    """The documents and the counters know only the closes of the table."""
    assert CLOSES["DRAINING"] is DRAINING
    assert CLOSES["RETURNED"] is RETURNED
    assert {name for name, value in vars(close).items() if isinstance(value, Close)} == set(CLOSES)
    assert all(name.isupper() for name in CLOSES)


def test_a_refusal_counts_as_ours_even_if_the_application_worded_it() -> None:
    """``authorize`` may return a close; the stabilizer is the one that sends it."""
    refusal = Close(4001, "not today").refusing()
    assert refusal == Close(4001, "not today", Cause.STABILIZER)


@pytest.mark.parametrize("name", sorted(CLOSES))
def test_each_close_of_the_table_can_be_sent_or_is_1006(name: str) -> None:
    """1006 means that no close frame was sent."""
    row = CLOSES[name]
    assert row.code == 1006 or clamp_code(row.code) == row.code
    assert clamp_reason(row.reason) == row.reason
    assert row.cause is Cause.STABILIZER or name in ("RETURNED", "RAISED", "VANISHED", "CANCELLED")


@pytest.mark.parametrize("name", sorted(CLOSES))
def test_a_close_has_a_retry_after_exactly_when_its_status_allows_one(name: str) -> None:
    """``Retry-After`` belongs to 503 and 429 (RFC 9110, RFC 6585), and only to peers that may reconnect."""
    row = CLOSES[name]
    assert (row.retry_after is not None) == (row.status in (429, 503))
    assert row.retry_after is None or row.reconnect


def test_a_drained_client_may_reconnect_and_a_replaced_one_may_not() -> None:
    """A client library must be able to tell these two apart."""
    assert (DRAINING.code, DRAINING.reconnect) == (1012, True)
    assert (DUPLICATE_CLIENT.code, DUPLICATE_CLIENT.reconnect) == (4409, False)


def test_a_connection_that_ends_without_a_close_frame_has_code_1006() -> None:
    """1006 itself never travels in a frame."""
    assert VANISHED.code == HEARTBEAT_TIMEOUT.code == CloseCode.ABNORMAL_CLOSURE
    assert CloseCode.ABNORMAL_CLOSURE in NEVER_SENT


def test_a_close_without_arguments_is_a_normal_one_of_the_application() -> None:
    """The defaults of ``Close()``."""
    assert Close() == Close(1000, "", Cause.APPLICATION, reconnect=False, status=403, retry_after=None)
