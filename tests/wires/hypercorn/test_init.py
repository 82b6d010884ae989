"""How hypercorn is recognised, and which wire its streams get."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import AsyncMock

import pytest
from hypercorn.protocol.ws_stream import WSStream

from tests.wires.hypercorn.doubles import Hypercorn
from wsstab.types import Event
from wsstab.wires import wire_for
from wsstab.wires.asgi import AsgiWire
from wsstab.wires.hypercorn import Http2Wire, HypercornWire, TrioWire

pytestmark = pytest.mark.anyio


async def test_each_kind_of_stream_has_its_wire(anyio_backend: str) -> None:
    """The loop and the version of HTTP decide."""
    assert type(Hypercorn(anyio_backend).wire()) is (TrioWire if anyio_backend == "trio" else HypercornWire)
    assert type(Hypercorn(anyio_backend, http=2).wire()) is Http2Wire


async def test_a_derived_stream_class_is_recognised_too(hypercorn: Hypercorn) -> None:
    """Its base classes are still in hypercorn's modules."""
    hypercorn.stream.__class__ = type("Own", (WSStream,), {})
    assert type(hypercorn.wire()) is not AsgiWire


@pytest.mark.parametrize("http", [1, 2])
async def test_each_stream_gets_its_own_copy_of_the_state(anyio_backend: str, http: int) -> None:
    """Over HTTP/2, old versions of hypercorn pass the same object to all streams of a connection."""
    made, state = Hypercorn(anyio_backend, http=http), {"shared": 1}
    scope: dict[str, Any] = {"state": state}
    wire_for(scope, made.receive, made.stream.app_send)
    scope["state"]["own"] = 2
    assert (scope["state"], state) == ({"shared": 1, "own": 2}, {"shared": 1})


async def test_a_send_that_is_not_hypercorns_gets_plain_asgi() -> None:
    """Here a mock and a coroutine function."""
    assert type(wire_for({}, AsyncMock(), AsyncMock())) is AsgiWire
    assert type(wire_for({}, AsyncMock(), other_send)) is AsgiWire


async def other_send(event: Event) -> None:
    """A send that is not hypercorn's."""


@pytest.mark.parametrize("name", ["handshake", "app_put", "state", "closed", "buffer", "_send_pings"])
async def test_a_stream_that_lacks_an_attribute_gets_plain_asgi(
    hypercorn: Hypercorn, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log names the attribute, once."""
    monkeypatch.setattr("wsstab.wires.base._lacking", set())
    hypercorn.stream.__dict__.pop(name, None)
    if hasattr(WSStream, name):
        monkeypatch.delattr(WSStream, name)
    with caplog.at_level(logging.WARNING, "wsstab"):
        assert [type(hypercorn.wire()) for _ in range(2)] == [AsgiWire, AsgiWire]
    (record,) = caplog.records
    assert f"hypercorn's stream has no {name}" in record.message


@pytest.mark.parametrize("http", [1, 2])
async def test_a_server_or_protocol_that_lacks_an_attribute_gets_plain_asgi(
    anyio_backend: str, http: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP/1.1 the TCP server of each loop is checked, over HTTP/2 the protocol."""
    monkeypatch.setattr("wsstab.wires.base._lacking", set())
    made = Hypercorn(anyio_backend, http)
    owner = made.server if http == 1 else made.protocol
    name = "stream_buffers" if http == 2 else "stream" if anyio_backend == "trio" else "writer"
    del owner.__dict__[name]
    with caplog.at_level(logging.WARNING, "wsstab"):
        assert type(made.wire()) is AsgiWire
    assert name in caplog.text


async def test_http_3_gets_plain_asgi(hypercorn: Hypercorn) -> None:
    """There is no wire for what is below such a stream."""
    hypercorn.stream.send = AsyncMock()
    assert type(hypercorn.wire()) is AsgiWire
