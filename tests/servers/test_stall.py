"""A stall of ten seconds with a thousand clients."""

from __future__ import annotations

import resource
from typing import Any

from tests.conftest import MakeServer
from tests.support.crowd import Crowd
from tests.support.lab import Lab
from tests.support.server import Variant
from tests.support.waiting import eventually


def test_ten_seconds_of_a_blocked_loop_drop_nobody(serve: MakeServer, variant: Variant) -> None:
    """A thousand healthy clients, a heartbeat that allows two seconds, and a handler that blocks for ten."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    server = serve("tests.support.apps.lab:app", variant, log_level="warning")
    beats: dict[str, Any] = {} if variant.traits.native_ping else {"heartbeat_type": "custom"}
    with Lab(server, heartbeat_interval=1.0, heartbeat_timeout=1.0, **beats) as made, Crowd(server.address) as crowd:
        assert crowd.open(made.path("/push"), 1000) == [101] * 1000
        eventually(lambda: all(client["pings"] for client in crowd.report()), within=10)
        server.post("/-/stall?seconds=10")
        before = [client["pings"] for client in crowd.report()]
        eventually(lambda: all(now["pings"] > old + 1 for now, old in zip(crowd.report(), before, strict=True)), 15)
        assert made.call("get_connection_count") == 1000
        assert made.statistics["heartbeats_missed"] == 0
        assert made.statistics["closed"] == {}
