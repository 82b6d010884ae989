"""`wsstab.wires.deflate`: the answer to an offer of permessage-deflate."""

from __future__ import annotations

import pytest

from wsstab.wires.deflate import without_takeover

BOTH = "server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("permessage-deflate", f"permessage-deflate; {BOTH}"),
        ("permessage-deflate; server_max_window_bits=12", f"permessage-deflate; server_max_window_bits=12; {BOTH}"),
        (
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        ),
        (f"permessage-deflate;{BOTH}", f"permessage-deflate;{BOTH}"),
    ],
)
def test_context_takeover_is_refused_once_for_each_side(answer: str, refused: str) -> None:
    """A repeated parameter would make the answer invalid (RFC 7692 section 7.1)."""
    assert without_takeover(answer) == refused
