"""An override guards what the application routes, for every spelling, under a root path and in a mount."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.support.peer import Denied, Peer
from tests.support.server import Server, Variant

ROOT_PATH: dict[str, dict[str, Any]] = {
    "uvicorn": {"root_path": "/api"},
    "hypercorn": {"root_path": "/api"},
    "granian": {"url_path_prefix": "/api"},
    "daphne": {"root-path": "/api"},
}
"""The setting of each server for its root path."""
GUARDED = [
    "/admin",
    "/admin%0A",
    "/admin/",
    "//admin",
    "/%61dmin",
    "/%2Fadmin",
    "/admin?x=%0A",
    "/number/7",
    "/number/007",
    "/number/7%0A",
    "/marked/a",
    "/marked/a%0A",
]
"""Spellings of paths that nobody may open; some lead nowhere."""
OPEN = ["/open", "/open%0A", "/number/8"]


def answer(server: Server, path: str) -> int:
    """The status of a handshake."""
    try:
        with Peer(server.address, path) as peer:
            assert peer.receive() == "inside"
            return peer.answer.status
    except Denied as denied:
        return denied.status


@pytest.mark.parametrize("rooted", [False, True], ids=["plain", "root path"])
def test_no_spelling_of_a_path_leads_past_its_guard(serve: MakeServer, variant: Variant, rooted: bool) -> None:
    """They come with and without the root path; an open path stays open in at least one of the two forms."""
    settings = ROOT_PATH[variant.server] if rooted else None
    server = serve("tests.support.apps.guarded:app", variant, settings=settings)
    prefixes = [f"{root}{mount}" for root in ("", *(["/api"] if rooted else [])) for mount in ("", "/v1")]
    reached = [path for path in GUARDED if 101 in [answer(server, prefix + path) for prefix in prefixes]]
    assert reached == []
    for mount in ("", "/v1"):
        let_in = [path for path in OPEN if 101 in [answer(server, f"{root}{mount}{path}") for root in ("", "/api")]]
        # Starlette does not find a mount when the path has a newline.
        assert let_in == [path for path in OPEN if not (mount and "%0A" in path)]
