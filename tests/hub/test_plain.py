"""`wsstab.hub.plain`: the warnings for connections that have fewer features than their server could provide."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from wsstab import WebSocketConfig, WebSocketConnectionManager
from wsstab.hub.plain import MOST_TOLD, _told, tell_of_plain
from wsstab.manager import hub_of
from wsstab.types import Event, Scope
from wsstab.wires.asgi import AsgiWire
from wsstab.wires.base import Wire
from wsstab.wires.observers import Stranger, stranger
from wsstab.wires.traits import TRAITS

SCOPE: Scope = {"type": "websocket", "path": "/ws", "client": ("192.0.2.1", 5)}


class Protocol:
    """A protocol that looks like uvicorn's."""

    __module__ = "uvicorn.protocols.websockets.some_impl"
    transport = None
    ping_interval: float | None = 20.0

    async def send(self, event: Event) -> None:
        """Send an event."""

    async def receive(self) -> Event:
        """The next event."""
        return {"type": "websocket.connect"}


class Stream(Protocol):
    """A stream that looks like hypercorn's."""

    __module__ = "hypercorn.protocol.ws_stream"
    config = None

    async def app_send(self, event: Event) -> None:
        """Send an event."""


def shouting(send: Any) -> Any:
    """Middleware that changes messages."""

    async def shout(event: Event) -> None:
        await send({**event, "text": "!"})

    return shout


async def of_no_server(event: Event) -> None:
    """A ``send`` that belongs to no known server."""


def told(caplog: pytest.LogCaptureFixture, *sends: Any, wire: Wire | None = None, **options: Any) -> list[str]:
    """The warnings about connections with these ``send`` callables."""
    manager = WebSocketConnectionManager(WebSocketConfig(**options))
    for send in sends:
        tell_of_plain(hub_of(manager), wire or AsgiWire(Protocol().receive, send), manager.config, SCOPE, send)
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_middleware_that_hides_the_server_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """The warning says which features are lost, which heartbeat is left, and what to do about it."""
    assert told(caplog, *[shouting(Protocol().send) for _ in range(3)]) == [
        "! tests.hub.test_plain.shout wraps the send() of uvicorn and may change messages, so every message goes "
        "through it: no WebSocket pings of ours, no abort of peers that take nothing, no joined broadcasts (the only "
        "heartbeat is uvicorn's own ping every 20 s); wrap the stabilizer around everything, "
        "app = WebSocketStabilizer(app), or start uvicorn with --ws wsstab.wires.uvicorn:Protocol"
    ]


def test_the_server_behind_a_wrapper_is_searched_for_only_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is slow, and every handshake would repeat it."""
    looked = list[Any]()

    def look(scope: Scope, send: Any) -> Stranger:
        looked.append(send)
        return stranger(scope, send)

    monkeypatch.setattr("wsstab.hub.plain.stranger", look)
    assert len(told(caplog, *[shouting(Protocol().send) for _ in range(5)])) == 1
    assert len(looked) == 1


def test_at_most_a_hundred_names_are_remembered(caplog: pytest.LogCaptureFixture) -> None:
    """An application may create a new wrapper function for each connection."""
    sends = list[Any]()
    for number in range(MOST_TOLD + 20):
        namespace: dict[str, Any] = {}
        exec(f"async def f{number}(event): pass", namespace)
        sends.append(namespace[f"f{number}"])
    manager = WebSocketConnectionManager(WebSocketConfig())
    for send in sends:
        tell_of_plain(hub_of(manager), AsgiWire(Protocol().receive, send), manager.config, SCOPE, send)
    assert len(_told[hub_of(manager)]) == MOST_TOLD


def test_each_middleware_that_hides_the_server_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """A second one gets its own warning."""
    other = Protocol()

    async def whisper(event: Event) -> None:
        await other.send(event)

    assert len(told(caplog, shouting(Protocol().send), whisper)) == 2


def test_for_a_server_without_pings_the_warning_offers_custom_heartbeats(caplog: pytest.LogCaptureFixture) -> None:
    """The advice to use another protocol class is for uvicorn only."""
    [line] = told(caplog, shouting(Stream().app_send))
    assert "send() of hypercorn" in line
    assert 'so no heartbeat, no abort of peers that take nothing, no joined broadcasts (heartbeat_type="custom"' in line
    assert "--ws" not in line


@pytest.mark.parametrize("kind", ["custom", "off"])
def test_a_heartbeat_without_pings_is_not_reported_as_lost(caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """The other lost features are."""
    [line] = told(caplog, shouting(Protocol().send), heartbeat_type=kind, compression="none")
    assert "heartbeat" not in line
    assert 'no joined broadcasts, no compression="none"; wrap' in line


def test_an_unknown_send_is_reported_as_server_or_middleware(caplog: pytest.LogCaptureFixture) -> None:
    """It may be either if no known server is found behind it."""
    [line] = told(caplog, of_no_server)
    assert line.startswith("! tests.hub.test_plain.of_no_server is the send() of an unknown server, or wraps one ")
    assert "; if it is middleware, wrap the stabilizer around everything" in line


def test_an_unknown_server_version_is_not_reported_as_hidden(caplog: pytest.LogCaptureFixture) -> None:
    """No middleware stands around its ``send``."""
    [line] = told(caplog, Protocol().send)
    assert line.startswith("! plain ASGI is all that works with this version of uvicorn: no WebSocket pings of ours, ")


def test_a_server_that_cannot_ping_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Middleware around it makes no difference."""

    class Granian(AsgiWire):
        """The wire of granian."""

        traits = TRAITS["granian"]

    wire = Granian(Protocol().receive, of_no_server)
    assert told(caplog, of_no_server, of_no_server, wire=wire) == [
        '! no heartbeat: granian sends no WebSocket pings; heartbeat_type="custom" sends messages instead'
    ]
