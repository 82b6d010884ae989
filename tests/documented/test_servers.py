"""What our documents say of server options and of our own limits is true."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.crowd import Crowd
from tests.support.peer import Peer
from tests.support.server import GRANIAN, UVICORN, Server, Variant
from tests.support.waiting import eventually
from wsstab.loop.backpressure import KEEPING_UP, PATIENCE
from wsstab.loop.turn_log import MAX_LOG_BYTES, MAX_LOG_ENTRIES

ROOT = Path(__file__).parents[2]
PLAIN = "tests.support.apps.plain:app"
SERVICE = "tests.support.apps.service:app"
MEBIBYTE = 1_048_576


@pytest.mark.parametrize("app", [PLAIN, SERVICE], ids=["bare", "wrapped"])
@pytest.mark.parametrize(
    ("variant", "settings", "status"),
    [
        *[(variant, {"limit_concurrency": 5}, 503) for variant in UVICORN if variant.loop == "uvloop"],
        (GRANIAN[0], {"backpressure": 5}, 200),
    ],
    ids=str,
)
def test_open_sockets_count_for_a_servers_http_limit_as_documented(
    app: str, variant: Variant, settings: dict[str, Any], status: int
) -> None:
    """uvicorn's limit refuses HTTP requests because of them; granian's ignores them."""
    with Server(app, variant, settings=settings) as server, contextlib.ExitStack() as sockets:
        for _ in range(8):
            sockets.callback(Peer(server.address, "/echo").vanish)
        assert server.request("GET", "/-/health")[0] == status


@pytest.mark.parametrize(
    "promise",
    [
        f"{PATIENCE:g} s at most",
        f"less than {KEEPING_UP // 1024} KiB a second",
        f"{MAX_LOG_BYTES // 1024} KiB or {MAX_LOG_ENTRIES:,} messages",
    ],
)
def test_the_pacing_limits_in_the_readme_are_those_of_the_code(promise: str) -> None:
    """The README says how long a call waits for slow peers."""
    assert promise in " ".join((ROOT / "README.md").read_text().split())


def test_a_stalled_peer_delays_broadcasts_for_half_a_second_in_total() -> None:
    """Afterwards its policy decides, and no broadcast waits for it."""
    with (
        Server(SERVICE, UVICORN[1], {"outbound": {"policy": "drop_newest"}}) as server,
        Crowd(server.address) as crowd,
        contextlib.ExitStack() as sockets,
    ):
        sockets.callback(Peer(server.address, "/push", receive_buffer=4096).vanish)
        crowd.open("/push", 1)
        eventually(lambda: server.get("/-/count") == 2)
        times = [seconds(server) for _ in range(40)]
    # The usual duration of a request is not counted as waiting.
    usual = sorted(times)[20]
    waited = [each - usual for each in times if each > 3 * usual + 0.05]
    assert PATIENCE * 0.8 < max(waited) < 2 * PATIENCE
    # If each broadcast waited, the sum would be ten seconds.
    assert sum(waited) < 6 * PATIENCE


def seconds(server: Server) -> float:
    """The duration of a request that broadcasts a quarter of a mebibyte."""
    began = time.monotonic()
    server.post(f"/-/broadcast?count=1&size={MEBIBYTE // 4}")
    return time.monotonic() - began


HELP = {
    "uvicorn": ["uvicorn", "gunicorn"],
    "hypercorn": ["hypercorn"],
    "granian": ["granian"],
    "daphne": ["daphne"],
}
"""The commands whose options the chapter of this name mentions."""


@pytest.mark.parametrize("server", HELP)
@pytest.mark.parametrize("document", ["docs/deployment.md", "docs/servers.md"])
def test_each_option_in_the_chapter_of_a_server_exists(document: str, server: str) -> None:
    """The ``--help`` of its command lists it."""
    (chapter,) = re.findall(rf"^## {server}\n(.*?)^## ", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", chapter))
    assert named
    assert named - options_of(*HELP[server]) == set()


def options_of(*commands: str) -> set[str]:
    """The long options of these commands."""
    environment = os.environ | {"COLUMNS": "200", "TERM": "dumb"}
    shown = [
        subprocess.run([sys.executable, "-m", command, "--help"], capture_output=True, text=True, env=environment)
        for command in commands
    ]
    return {option for each in shown for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", each.stdout)}
