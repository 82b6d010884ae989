"""Whatever a hook does, connections end, the next ones come in, and the process stops in time."""

from __future__ import annotations

import time

import pytest

from tests.conftest import MakeServer
from tests.support.peer import Peer
from tests.support.server import Variant
from tests.support.waiting import eventually

MISBEHAVING = "@tests.support.apps.misbehaving:"


@pytest.mark.parametrize("what", ["cancelled", "odd", "never"])
def test_a_misbehaving_hook_holds_up_nobody(serve: MakeServer, variant: Variant, what: str) -> None:
    """All hooks misbehave at once, and eight peers come one after the other where four have room."""
    names = ("on_connect", "on_disconnect", "on_limit_hit", "on_drain_started", "on_drain_finished")
    hooks = dict.fromkeys(names, MISBEHAVING + what)
    options = {"hooks": hooks, "max_connections": 4, "drain": {"timeout": 2.0}}
    server = serve("tests.support.apps.service:app", variant, options)
    for _ in range(8):
        with Peer(server.address, "/echo") as peer:
            peer.send("hello")
            assert peer.receive() == "hello"
        eventually(lambda: server.get("/-/count") == 0)
    with Peer(server.address, "/echo") as last:
        last.send("hello")
        assert last.receive() == "hello"
        began = time.monotonic()
        server.signal()
        status = server.wait(within=15)
    # Two seconds for the drain, and twice two for hooks that may still end.
    assert time.monotonic() - began < 2.0 + 4.0 + 3.0
    assert status == variant.status()
    if what != "never":
        assert "failed for ConnectionClosed" in server.log
