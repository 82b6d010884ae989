"""Packages that trace requests and report errors, compared bare and wrapped."""

from __future__ import annotations

from typing import Any

from tests.composition.case import CASES, Case, on_servers
from tests.composition.rows import NATIVE
from tests.support.waiting import eventually

pytestmark = on_servers([case for case in CASES[""] if case.row.traces])


def test_the_spans_of_a_connection_are_one_trace(case: Case) -> None:
    """There are no more traces and spans than without us; messages bypass a known observer, and make no spans."""

    def ask(kind: str) -> list[dict[str, Any]]:
        spans: list[dict[str, Any]] = []

        def ended() -> bool:
            spans.extend(case.server.post("/-/spans"))
            return any(span["root"] for span in spans)

        eventually(lambda: case.server.post("/-/spans") == [])
        before = len(case.look(kind)["notes"])
        peer = case.connect(kind, "/echo")
        for number in range(20):
            peer.send(str(number))
        peer.receive_many(20)
        peer.close()
        case.notes(kind, before)
        eventually(ended)
        return spans

    bare, wrapped = case.both(ask)
    assert len({span["trace"] for span in wrapped}) <= len({span["trace"] for span in bare})
    # A package that traces each middleware traces one more, with its accept and its close.
    assert 1 <= len(wrapped) <= len(bare) + (3 if case.row.around_each else 0)
    if case.place == "outside" and case.row.wire(case.place) == NATIVE and not case.row.around_each:
        assert len(wrapped) < 10


def test_an_error_is_reported_as_without_us(case: Case) -> None:
    """The package gets it as often as it does without us."""
    failures = case.failing("/raises")
    reported = [span["name"] for span in case.server.post("/-/spans")]
    bare, wrapped = (sum(failure.words in name for name in reported) for failure in failures)
    assert wrapped == bare
