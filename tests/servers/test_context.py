"""Everything done for a connection runs in the context of its ASGI call, whichever task does it."""

from __future__ import annotations

from typing import Any

from tests.conftest import MakeServer
from tests.support.peer import Peer
from tests.support.server import Server, Variant
from tests.support.waiting import eventually

APP = "tests.support.apps.contexts:app"
BEAT = {"heartbeat_type": "custom", "heartbeat_interval": 0.3, "custom_heartbeat": "beat"}


def seen(server: Server) -> list[Any]:
    """What the outer middleware noted."""
    return list(server.get("/seen"))


def test_an_outer_middleware_finds_its_context_variables_in_every_call(serve: MakeServer, variant: Variant) -> None:
    """The calls: messages of the handler, of others and of requests, heartbeats, reads ahead, and the close."""
    server = serve(APP, variant, BEAT)
    with Peer(server.address, "/ann") as ann, Peer(server.address, "/deaf") as deaf:
        ann.send("hello")
        deaf.send("unread")
        for peer in (ann, deaf):
            peer.read_until(lambda frames: any(b"beat" in frame.payload for frame in frames))
        eventually(lambda: ["websocket.receive", "unread", "deaf"] in seen(server))
        for name in ("ann", "deaf"):
            server.get(f"/push/{name}")
    noted = seen(server)
    kinds = {(kind, text) for kind, text, _ in noted}
    assert kinds >= {("websocket.send", text) for text in ("hello", "for all", "from a request", "direct", "beat")}
    assert ("websocket.close", "") in kinds
    assert {user for _, _, user in noted} == {"ann", "deaf"}
