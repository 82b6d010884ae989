"""Endings: what the end of a carrier means for a client, where no bye has explained it.

Decides, and does nothing.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NORMAL", "PROTOCOL_ERROR", "Close", "is_final"]

NORMAL = 1000
PROTOCOL_ERROR = 1002
NO_CODE = frozenset({None, 1005})
"""A close frame without a code (RFC 6455 section 7.1.5)."""
MAX_REASON_BYTES = 123
"""RFC 6455 section 5.5: a control frame carries 125 bytes, and two of them are the code."""

FINAL = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""After these the same would happen again. A server of wsstab.v1 explains every other end that is final."""
FINAL_WHEN_PLAIN = FINAL | {NORMAL, *range(4400, 4500)}
"""Without a bye, codes have to say it all. 4400 to 4499 follow the HTTP statuses that blame the client."""


class Close(NamedTuple):
    """How the application closes; see `Close.check`.

    Args:
        code: close code.
        reason: its reason.
    """

    code: int
    reason: str

    def check(self) -> None:
        """Raise ``ValueError`` unless the code is 1000 or 3000 to 4999, and the reason at most 123 bytes of UTF-8.

        Source: the WebSocket API of browsers (WHATWG WebSockets section 3.1).
        """
        if self.code != NORMAL and not 3000 <= self.code <= 4999:
            raise ValueError(f"code={self.code!r}: must be 1000, or 3000 to 4999")
        if len(self.reason.encode()) > MAX_REASON_BYTES:
            raise ValueError(f"reason={self.reason!r}: must be at most {MAX_REASON_BYTES} bytes of UTF-8")

    def is_answered_by(self, code: int | None, clean: bool) -> bool:
        """Whether an end of the carrier is the answer to this close, and not a close of the server that crossed it.

        Args:
            code: code of the server's close frame; ``None`` or 1005 for none.
            clean: whether both sides have sent a close frame.
        """
        # Most servers answer with the same code, some with 1000 or without one.
        return clean and (code in (self.code, NORMAL) or code in NO_CODE)


def is_final(code: int | None, plain: bool) -> bool:
    """Whether the end of a carrier ends all, so that the client does not come back.

    Args:
        code: code of the server's close frame, which no bye has explained; ``None`` for none.
        plain: whether the server does not speak wsstab.v1.
    """
    return code in (FINAL_WHEN_PLAIN if plain else FINAL)
