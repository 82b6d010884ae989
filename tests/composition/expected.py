"""What does not hold in a composition, and why: tests that must fail there.

As with the servers' list, a row makes a test an expected failure, and it is the last resort.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["EXPECTED", "Expected", "reason_to_fail"]


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
            "test_a_handler_that_only_sends_learns_of_its_end",
            f"{server}*-litestar-*",
            "with us a send to a peer that has left raises on every server, and this Litestar logs what is raised",
        )
        for server in ("hypercorn", "granian", "daphne")
    ],
    *[
        Expected(
            "test_a_handler_that_only_sends_learns_of_its_end",
            f"{server}*-channels-*",
            "with us a send to a peer that has left raises on every server in a handler that has received nothing: a "
            "consumer that is still in its `connect()` then ends without its `disconnect()`",
        )
        for server in ("hypercorn", "granian", "daphne")
    ],
]


def reason_to_fail(test: str, case: str) -> str | None:
    """Why a test must fail there; ``None`` where it must not.

    Args:
        test: its name.
        case: server, composition and place.
    """
    return next((row.why for row in EXPECTED if row.applies(test, case)), None)
