"""The context of a handler is the same as without us."""

from __future__ import annotations

from tests.composition.case import CASES, Case, on_servers
from tests.composition.rows import FRAMEWORKS

pytestmark = on_servers([case for case in CASES[""] if case.row.process not in FRAMEWORKS])

HEADERS = [("X-Request-ID", "0" * 32), ("X-Correlation-ID", "1" * 32)]


def test_a_handler_sees_its_context(case: Case) -> None:
    """It sees the context variables of the packages around it, before and after it receives."""

    def ask(kind: str) -> list[str | bytes]:
        peer = case.connect(kind, "/context", headers=HEADERS)
        peer.send("again")
        return peer.receive_many(2)

    bare, wrapped = case.both(ask)
    assert wrapped == bare
