"""What does not hold in a composition, and why: tests that must fail there.

As with the servers' list, a row makes a test an expected failure, and it is the last resort.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["EXPECTED", "PENDING", "Expected", "reason_to_fail"]


@dataclass(frozen=True)
class Expected:
    """One row: which tests must fail, and why.

    Args:
        test: pattern of its name, as a shell writes it (``*``, ``?``).
        case: pattern of ``server-composition-place``.
        why: the reason.
    """

    test: str
    case: str
    why: str

    def applies(self, test: str, case: str) -> bool:
        """Whether this test must fail there."""
        return fnmatchcase(test, self.test) and fnmatchcase(case, self.case)


EXPECTED: list[Expected] = [
    *[
        Expected(
            "test_an_error_of_a_handler_closes_with_1011",
            f"daphne-*-{name}-{place}",
            "by plain ASGI daphne takes close codes of 1000 and 3000 to 4999 alone: 1011 goes as 4011",
        )
        for name in ("changes-messages", "starlette-context")
        for place in ("outside", "both")
    ],
    *[
        Expected(
            "test_a_handler_that_only_sends_learns_of_its_end",
            f"{server}*-litestar-*",
            "with us a send to a peer that has left raises on every server, and this Litestar logs what is raised",
        )
        for server in ("hypercorn", "granian", "daphne")
    ],
]

PENDING: list[Expected] = [
    *[
        Expected("*", f"*-{name}-{place}", "the scope cannot be copied")
        for name in ("copies-scope", "proxy-fix-*")
        for place in ("inside", "both")
    ],
    Expected("test_a_handler_that_only_sends*", "*-channels-*", "disconnect() is never called"),
]
"""What is being mended; it may pass already."""


def reason_to_fail(test: str, case: str) -> tuple[str, bool] | None:
    """Why a test must fail there, and whether it surely does; ``None`` where it must not."""
    for rows, surely in ((EXPECTED, True), (PENDING, False)):
        for row in rows:
            if row.applies(test, case):
                return row.why, surely
    return None
