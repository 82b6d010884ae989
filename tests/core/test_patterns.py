"""Path patterns: which paths they match, and whether they can match a path of a route."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import compile_path

from wsstab.core.patterns import matches, meets


@pytest.mark.parametrize(
    ("pattern", "template", "expected"),
    [
        ("/admin", "/admin", True),
        ("/admin", "/admins", False),
        ("/admin/", "/admin", False),
        ("/rooms/*", "/rooms/{room}", True),
        ("/rooms/lobby", "/rooms/{room}", True),
        ("/rooms/a/b", "/rooms/{room}", False),
        ("/rooms/", "/rooms/{room}", False),
        ("/files/a/b", "/files/{path:path}", True),
        ("/files/", "/files/{path:path}", True),
        ("/rooms/7", "/rooms/{number:int}", True),
        ("/rooms/seven", "/rooms/{number:int}", False),
        ("/rooms/7.5", "/rooms/{number:float}", True),
        ("/rooms/x", "/rooms/{id:uuid}", False),
        ("/rooms/x/y", "/rooms/{room:ours}", True),
        ("*", "/anything", True),
        ("*/chat", "/{tenant}/chat", True),
        ("*/chat", "/{tenant}/talk", False),
        ("/a*b*c", "/a{x}c", True),
        ("/rooms/*", "/{kind}/lobby", True),
    ],
)
def test_a_pattern_meets_a_route_where_a_path_could_match_both(pattern: str, template: str, expected: bool) -> None:
    """A parameter stands for what its convertor accepts; with an unknown convertor, for anything."""
    assert meets(pattern, template) is expected


@given(
    st.text("/ab*", max_size=6),
    st.lists(st.sampled_from(["/", "a", "b", "{x}", "{p:path}", "{n:int}"]), max_size=5),
    st.text("/ab7", max_size=8),
)
def test_no_path_matches_a_pattern_and_a_route_that_do_not_meet(pattern: str, pieces: list[str], path: str) -> None:
    """Starlette's own regular expression decides for the route."""
    template = "/" + "".join(re.sub(r"{\w", f"{{x{at}", piece) for at, piece in enumerate(pieces))
    expression, _, _ = compile_path(template)
    if matches(f"/{pattern}", f"/{path}") and expression.fullmatch(f"/{path}"):
        assert meets(f"/{pattern}", template)


def test_many_wildcards_against_a_long_route_are_fast() -> None:
    """Each pair of positions is examined once."""
    assert not meets("/*a*a*a*a*a*c", "/" + "a" * 500 + "b")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/chat", "/chat", True),
        ("/chat", "/chat/", False),
        ("/rooms/*", "/rooms/", True),
        ("/rooms/*", "/rooms/a/b", True),
        ("/rooms/*", "/room", False),
        ("*/chat", "/tenant/chat", True),
        ("*/chat", "/tenant/talk", False),
        ("/a*a", "/a", False),
        ("/a*b*c*d", "/axbxcxd", True),
        ("/a*b*c*d", "/axcxbxd", False),
        ("/a*bb*bb", "/abbb", False),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, path: str, expected: bool) -> None:
    """It may stand for nothing and for slashes; the text between two stars must occur in order, without overlap."""
    assert matches(pattern, path) is expected
