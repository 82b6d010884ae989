"""How a connection of uvicorn is recognised, and which wire it gets."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

import wsstab.wires.uvicorn as uvicorn_wires
from wsstab.types import Event
from wsstab.wires.uvicorn import IMPLEMENTATIONS, SansioWire, UvicornWire, recognise
from wsstab.wires.uvicorn.base import EXTENSION

FOLDER = "uvicorn.protocols.websockets."


class Server:
    """A protocol object with every attribute that any of the wires needs."""

    def __init__(self, lacks: str = "") -> None:
        names = {name for wire_class in IMPLEMENTATIONS.values() for name in wire_class.needs} - {lacks}
        vars(self).update(dict.fromkeys(names, SimpleNamespace()))

    async def receive(self) -> Event:
        """Like the method of uvicorn."""
        return {}

    async def send(self, event: Event) -> None:
        """Like the method of uvicorn."""

    asgi_receive, asgi_send = receive, send


def server_of(module: str, lacks: str = "") -> Any:
    """A protocol object whose class is derived from one of this module."""
    base = type("Protocol", (Server,), {"__module__": module})
    return type("Derived", (base,), {})(lacks)


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what is known of servers, as in a new process."""
    monkeypatch.setattr(uvicorn_wires, "_complete", {})
    monkeypatch.setattr("wsstab.wires.base._lacking", set())


@pytest.mark.parametrize(("module", "wire_class"), IMPLEMENTATIONS.items())
def test_each_implementation_has_its_wire(module: str, wire_class: type[UvicornWire]) -> None:
    """This holds for derived classes too, at the first connection and at any later one."""
    server = server_of(FOLDER + module)
    assert [type(recognise({}, server.receive, server.send)) for _ in range(2)] == [wire_class] * 2


@pytest.mark.parametrize("module", ["somebody.protocol", FOLDER + "next_impl"])
def test_an_unknown_server_or_implementation_is_not_recognised(module: str) -> None:
    """The second one stands for a future implementation of uvicorn."""
    server = server_of(module)
    assert recognise({"extensions": None}, server.receive, server.send) is None
    assert recognise({}, AsyncMock(), AsyncMock()) is None


@pytest.mark.parametrize("module", IMPLEMENTATIONS)
def test_a_server_that_lacks_an_attribute_is_not_recognised(module: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the attribute, once."""
    server = server_of(FOLDER + module, lacks="ping_interval")
    with caplog.at_level(logging.WARNING, "wsstab"):
        assert [recognise({}, server.receive, server.send) for _ in range(2)] == [None, None]
    (record,) = caplog.records
    assert f"{module} has no ping_interval: falling back to plain ASGI" in record.message


def test_a_server_found_in_the_scope_is_received_from_directly() -> None:
    """Sends still pass through the middleware, which sees the handshake and the close."""
    server, receive, send = server_of(FOLDER + "websockets_sansio_impl"), AsyncMock(), AsyncMock()
    wire = recognise({"extensions": {EXTENSION: server}}, receive, send)
    assert isinstance(wire, SansioWire)
    assert (wire.protocol, wire.receive, wire._send) == (server, server.receive, send)


def test_the_protocol_class_is_imported_on_access() -> None:
    """Any other name is an ``AttributeError``."""
    from wsstab.wires.uvicorn.protocol import Protocol

    assert uvicorn_wires.Protocol is Protocol
    with pytest.raises(AttributeError, match="has no attribute 'Protocoll'"):
        uvicorn_wires.Protocoll  # noqa: B018
