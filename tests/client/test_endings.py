"""What the end of a carrier means for a client."""

from __future__ import annotations

import pytest

from wsstab.client.endings import Close, is_final

WITH_THE_PROTOCOL = {1002, 1003, 1007, 1008, 1009, 1010}


@pytest.mark.parametrize("code", [None, *range(1000, 1016), 3000, 3999, 4000, 4399, 4400, 4401, 4499, 4500, 4999])
def test_codes_are_final_or_not(code: int | None) -> None:
    """A plain server has more that are, because it has no bye to explain the others."""
    plain = code is not None and (code in WITH_THE_PROTOCOL | {1000} or 4400 <= code <= 4499)
    assert is_final(code, plain=False) == (code in WITH_THE_PROTOCOL)
    assert is_final(code, plain=True) == plain


@pytest.mark.parametrize("code", [None, 1000, 1005, 4000])
def test_a_close_is_answered_by_its_own_code_or_a_colourless_one(code: int | None) -> None:
    """If both sides have sent a close frame."""
    assert Close(4000, "").is_answered_by(code, clean=True)
    assert not Close(4000, "").is_answered_by(code, clean=False)


@pytest.mark.parametrize("code", [1001, 1002, 1006, 1011, 1012, 4001])
def test_a_close_of_the_server_that_crosses_it_is_no_answer(code: int) -> None:
    """The server may not have heard it."""
    assert not Close(4000, "").is_answered_by(code, clean=True)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (3000, "a"), (4999, "\xe9" * 61)])
def test_what_an_application_may_close_with(code: int, reason: str) -> None:
    """Nothing is thrown."""
    Close(code, reason).check()


@pytest.mark.parametrize("code", [0, 999, 1001, 1005, 1006, 1011, 2999, 5000])
def test_other_codes_are_refused(code: int) -> None:
    """As in browsers."""
    with pytest.raises(ValueError, match=f"^code={code}"):
        Close(code, "").check()


def test_a_reason_that_is_too_long_for_a_close_frame_is_refused() -> None:
    """It is counted in bytes."""
    with pytest.raises(ValueError, match="123 bytes"):
        Close(1000, "\xe9" * 62).check()
