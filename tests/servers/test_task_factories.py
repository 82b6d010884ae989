"""An eager task factory, asyncio's debug mode and Python's development mode change nothing.

``WSSTAB_TEST_MODE=eager make tests ARGS=tests/servers`` runs the whole conformance suite; this is an excerpt of it.
"""

from __future__ import annotations

import sys

import pytest

from tests.conftest import MakeServer
from tests.support.peer import Peer
from tests.support.server import VARIANTS, Variant
from tests.support.waiting import eventually

MODES = ["debug", "dev", *(["eager"] if sys.version_info >= (3, 12) else [])]
"""Eager tasks exist from Python 3.12 on, and neither in uvloop nor in trio."""
CASES = [
    (variant, mode)
    for variant in VARIANTS
    for mode in MODES
    # In development mode warnings are errors, and the legacy websockets module is deprecated.
    if variant.loop == "asyncio" and not (mode == "dev" and variant.legacy)
]
APP = "tests.support.apps.contexts:app"


@pytest.mark.parametrize(("variant", "mode"), CASES, ids=[f"{variant}-{mode}" for variant, mode in CASES])
def test_a_service_works_and_drains(serve: MakeServer, variant: Variant, mode: str) -> None:
    """Covers echo, reading ahead, messages of others, peers that vanish, a close from outside, and the drain."""
    server = serve(APP, variant, {"heartbeat_interval": 0.3}, mode=mode)
    ann, bob, deaf = (Peer(server.address, path) for path in ("/ann", "/bob", "/deaf"))
    deaf.send("unread")
    eventually(lambda: ["websocket.receive", "unread", "deaf"] in server.get("/seen"))
    for text in ("a", "b", "c"):
        ann.send(text)
        assert ann.receive_many(2) == [text, "for all"]
    assert bob.receive_many(3) == ["for all"] * 3
    deaf.vanish()
    server.get("/push/ann")
    assert ann.receive_many(2) == ["from a request", "direct"]
    assert ann.receive_close().code == 1000
    ann.vanish()
    eventually(lambda: server.log.count("= closed") == 2)
    bob.receive()
    with bob:
        server.stop()
        assert bob.receive_close().code in (1012, 4012)
    assert server.complaints() == []
