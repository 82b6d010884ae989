"""The rules of wsstab.v1: each statement of docs/protocol.md that a machine can show is quoted by a test vector."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .vectors import FILES, Json, groups

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
MARK = "●"
"""Marks a rule without which a promise is broken."""
WITH_RULES = range(1, 6)
"""The sections that give rules; the last one says what follows from them."""

FOR_NO_MACHINE = {
    (1, "- Both names are secrets like a session cookie"): "it says where names must not be written",
    (1, "The server decides in one synchronous step:"): "it introduces the rules that follow",
    (2, "- `again` follows from the table of closes"): "the table is in close.py",
    (2, "- The heartbeat on such a carrier is `ping`"): "the caller of the machines has the heartbeat's timer",
    (4, "- A carrier that takes nothing for `send_timeout`"): "the caller of the machines has these timers",
    (4, "- The handler runs in a task of its own"): "machines have no tasks",
    (5, "- For a reload, with `storage`, a page writes"): "machines have no storage",
}
"""Statements that no vector shows: their section, their first words, and why."""

Rule = tuple[int, str]
"""A section, and words of it."""


def sections(page: str) -> dict[int, list[str]]:
    """The statements of each section: paragraphs, points and rows of tables, each as one line."""
    parts = re.split(r"^## (\d+)\. .*\n", page, flags=re.MULTILINE)[1:]
    return {int(number): statements(text) for number, text in zip(parts[::2], parts[1::2], strict=True)}


def statements(section: str) -> list[str]:
    """The statements of a section, without the heads of its tables."""
    without_heads = re.sub(r"^\|.*\|\n\|[-|]+\|\n", "\n", section, flags=re.MULTILINE)
    parts = re.split(r"\n\s*\n|\n(?=\||- |\d+\. )", without_heads)
    return [line for part in parts if (line := " ".join(part.split()))]


def quoted() -> list[Rule]:
    """What the vectors say that they show."""
    vectors: list[Json] = [vector for name in FILES for group in groups(name) for vector in group]
    return [(vector["rule"]["section"], vector["rule"]["words"]) for vector in vectors]


def marks(text: str, start: int = 0) -> set[int]:
    """Where the marks of a text are, if it begins at ``start``."""
    return {start + match.start() for match in re.finditer(MARK, text)}


def not_shown(page: dict[int, list[str]], rules: list[Rule]) -> list[str]:
    """The statements that no vector quotes, or of which a mark is in no quotation."""
    missing = []
    for number in WITH_RULES:
        for statement in page.get(number, []):
            words = {words for section, words in rules if section == number and words in statement}
            shown = {place for each in words for place in marks(each, statement.index(each))}
            if not words or marks(statement) - shown:
                missing.append(statement)
    return missing


@pytest.fixture(scope="module")
def page() -> dict[int, list[str]]:
    """The page of the protocol."""
    return sections(PAGE.read_text("utf-8"))


def test_every_rule_of_the_protocol_has_a_vector(page: dict[int, list[str]]) -> None:
    """A marked one has a vector that quotes it with its mark."""
    excused = tuple(words for _, words in FOR_NO_MACHINE)
    assert [each for each in not_shown(page, quoted()) if MARK in each or not each.startswith(excused)] == []


def test_statements_that_no_vector_shows_are_on_the_page_and_have_none(page: dict[int, list[str]]) -> None:
    """The list of exceptions has no entry too many."""
    missing = not_shown(page, quoted())
    for (section, words), why in FOR_NO_MACHINE.items():
        assert why
        assert (
            [each for each in page[section] if each.startswith(words)]
            == [each for each in missing if each.startswith(words)]
            != []
        )


@pytest.mark.parametrize(("section", "words"), sorted(set(quoted())))
def test_what_a_vector_quotes_is_on_the_page_once(page: dict[int, list[str]], section: int, words: str) -> None:
    """In the section that it names, and in one statement of it."""
    assert sum(statement.count(words) for statement in page[section]) == 1


def test_the_marks_of_the_page_are_all_in_its_sections_with_rules(page: dict[int, list[str]]) -> None:
    """But for the one that says what a mark means, so none is overlooked."""
    found = sum(len(marks(statement)) for number in WITH_RULES for statement in page[number])
    assert found == len(marks(PAGE.read_text("utf-8"))) - 1 > 0


SMALL = """# Page

A mark is ●.

## 1. One

First ●. Second ●.
Third.

| A | B |
|---|---|
| row | of a table |

- A point,
  in two lines.
"""


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (["First ●. Second ●.", "row", "point, in two"], []),
        (["First ●", "Second ●", "row", "point"], []),
        (["First ●", "row", "point"], ["First ●. Second ●. Third."]),
        (["Third.", "row", "point"], ["First ●. Second ●. Third."]),
        (["Second ●", "First ●", "point"], ["| row | of a table |"]),
        (["Second ●", "First ●", "row"], ["- A point, in two lines."]),
    ],
    ids=["all", "each by itself", "one mark missing", "no mark", "no row", "no point"],
)
def test_a_rule_without_a_vector_is_found(rules: list[str], missing: list[str]) -> None:
    """By its mark, or because nothing of its statement is quoted."""
    assert not_shown(sections(SMALL), [(1, words) for words in rules]) == missing


def test_words_of_another_section_show_nothing() -> None:
    """The number of a section is part of a quotation."""
    assert len(not_shown(sections(SMALL), [(2, "First ●. Second ●."), (2, "row"), (2, "point")])) == 3
