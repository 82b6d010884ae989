"""The middleware beside HTTP, inside another application, and where no lifespan runs."""

from __future__ import annotations

from tests.conftest import MakeLab, MakeServer
from tests.support.lab import Lab
from tests.support.peer import Peer
from tests.support.server import Variant

MOUNTED = "tests.support.apps.chat:make_mounted"
NO_LIFESPAN = {"uvicorn": {"lifespan": "off"}, "granian": {"interface": "asginl"}}
"""Settings with which a server runs no lifespan; hypercorn has none for that, and daphne never runs one."""


def test_http_requests_find_the_manager_and_pass(lab: MakeLab) -> None:
    """The manager is in the same state that WebSockets have."""
    made = lab()
    made.connect("/push")
    made.wait_for_connections(1)
    assert made.server.get(made.path("/hello")) == {"connections": 1}
    assert made.server.request("GET", made.path("/nowhere"))[0] == 404


def test_a_mounted_application_is_stabilised_once(lab: MakeLab, variant: Variant) -> None:
    """The outer middleware acts; the inner one, with its limit of one connection, does not."""
    kind, heartbeat = variant.heartbeat
    made = lab(MOUNTED, heartbeat_interval=0.3, heartbeat_type=kind)
    first, second = made.connect("/inner/ws/ann"), made.connect("/inner/ws/bob")
    made.wait_for_connections(2)
    second.send("hi")
    assert first.receive() == '{"from":"bob","text":"hi"}'
    assert made.server.post(made.path("/inner/notify/ann")) == {"sent": True}
    assert first.receive() == '{"hello":"ann"}'
    before = first.count(heartbeat)
    first.read_until(lambda frames: first.count(heartbeat) > before)
    second.read_for(0.05)
    assert made.statistics["opened"] == 2


def test_the_first_socket_starts_the_manager_where_no_lifespan_runs(serve: MakeServer, variant: Variant) -> None:
    """Its heartbeats drop a silent peer and keep one that answers."""
    server = serve("tests.support.apps.lab:app", variant, settings=NO_LIFESPAN.get(variant.server))
    kind, heartbeat = variant.heartbeat
    with Lab(server, heartbeat_interval=0.3, heartbeat_timeout=0.5, heartbeat_type=kind) as made:
        dead = made.connect("/push", answer_pings=False)
        assert dead.ended() in ("fin", "rst")
        alive = made.connect("/push")
        for number in range(2):
            alive.read_until(lambda frames, count=number: alive.count(heartbeat) > count)  # type: ignore[misc]
            alive.send("pong")
        assert made.call("get_connection_count") == 1


def test_a_service_with_a_lifespan_is_served(serve: MakeServer, variant: Variant) -> None:
    """One line of middleware is enough; startup and shutdown run once each, and an open socket is closed."""
    kind, heartbeat = variant.heartbeat
    server = serve("tests.support.apps.service:app", variant, {"heartbeat_interval": 0.3, "heartbeat_type": kind})
    with Peer(server.address, "/echo") as peer:
        peer.send("hello")
        assert peer.receive() == "hello"
        before = peer.count(heartbeat)
        peer.read_until(lambda frames: peer.count(heartbeat) > before)
        assert (server.get("/-/count"), server.get("/-/ready")) == (1, True)
        server.signal()
        close = peer.receive_close()
        assert (close.code, close.reason) == variant.drained
        assert server.wait() == variant.status()
    assert (server.log.count('NOTE "startup"'), server.log.count('NOTE "shutdown"')) == (1, 1)
    assert server.complaints() == []
