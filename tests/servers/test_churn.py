"""Connections that have ended leave nothing behind."""

from __future__ import annotations

import pytest

from tests.conftest import MakeLab, MakeServer
from tests.support.crowd import Crowd
from tests.support.server import VARIANTS, Server, Variant
from tests.support.waiting import eventually

FREEING = [each for each in VARIANTS if each.implementation != "websockets" and each.loop != "trio"]
"""Variants that free a connection without the help of the garbage collector.

The deprecated implementation of uvicorn is a reference cycle itself and keeps the scope, and with it the connection.
On trio an exception at the end of a TCP connection may keep the frames of hypercorn's.
"""


def churn(server: Server, path: str) -> None:
    """Open a thousand connections, a hundred at a time, and end them in three ways."""
    for number in range(10):
        with Crowd(server.address) as crowd:
            assert crowd.open(path, 100) == [101] * 100
            crowd.send("hello", times=3)
            crowd.leave(("close", "fin", "rst")[number % 3])
            if number % 3 == 0:
                eventually(lambda: all(client["ended"] for client in crowd.report()))


def test_a_thousand_connections_leave_no_trace(lab: MakeLab) -> None:
    """No connection, room, name or byte stays in the registries; the tasks are checked when the lab closes."""
    made = lab()
    churn(made.server, made.path("/name/client-{i}"))
    made.wait_for_connections(0, within=15)
    counted = made.statistics
    assert counted["opened"] == sum(counted["closed"].values()) == 1000
    assert (counted["rooms"], counted["memory"], counted["queued_bytes"], counted["slow_consumers"]) == (0, 0, 0, 0)
    assert made.call("get_active_connections") == []
    assert made.call("get_memory_usage")["total_memory"] == 0
    assert len(made.events("ConnectionOpened")) == len(made.events("ConnectionClosed")) == 1000


@pytest.mark.parametrize("variant", FREEING, indirect=True, ids=str)
def test_a_connection_that_has_ended_is_freed_at_once(serve: MakeServer, variant: Variant) -> None:
    """This holds for every ending and without the garbage collector, which would stop the loop: there are no cycles."""
    server = serve("tests.support.apps.service:app", variant, {"max_connections": 30}, log_level="warning")
    server.post("/-/collector?run=false")
    for path in ("/echo", "/push"):
        for how in ("close", "fin", "rst"):
            with Crowd(server.address) as crowd:
                statuses = crowd.open(path, 40)
                assert statuses.count(101) == 30
                crowd.leave(how)
                eventually(lambda: server.get("/-/count") == 0, within=15)
    for path in ("/returns", "/raises", "/returns-early", "/closes-early", "/denies"):
        with Crowd(server.address) as crowd:
            crowd.open(path, 10)
            eventually(lambda: server.get("/-/count") == 0, within=15)
    eventually(lambda: server.get("/-/held") == 0)


@pytest.mark.parametrize(
    ("variant", "path"),
    [(VARIANTS[1], "/push"), (VARIANTS[3], "/echo"), (VARIANTS[5], "/echo")],
    indirect=["variant"],
    ids=str,
)
def test_memory_does_not_grow_with_churn(serve: MakeServer, variant: Variant, path: str) -> None:
    """After a few rounds a thousand more connections cost nothing; a leak would cost 20 MiB or more in every round.

    The first rounds warm up Python's allocator, whose peak depends on how many connections
    happened to be open at once.
    """
    server = serve("tests.support.apps.service:app", variant, log_level="warning")
    tasks = server.get("/-/tasks")
    assert any(growth(server, path) < 2 << 20 for _ in range(6))
    eventually(lambda: server.get("/-/tasks") <= tasks + 1)


def growth(server: Server, path: str) -> int:
    """How many bytes of memory the server gains by serving a thousand connections."""
    before = server.rss
    churn(server, path)
    eventually(lambda: server.get("/-/count") == 0, within=15)
    return server.rss - before
