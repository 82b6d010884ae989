"""A wire on an asyncio transport, where it needs no server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from wsstab.wires.transport import TransportWire


class Transport(asyncio.Transport):
    """One of which every answer is the test's."""

    def __init__(self, closing: bool = True, unsent: int = 0, tls: bool = False) -> None:
        super().__init__({"sslcontext": object()} if tls else {})
        self._is_closing, self._unsent = closing, unsent

    def is_closing(self) -> bool:
        """Whether it was told to close."""
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        """What has not gone out."""
        return self._unsent


@pytest.mark.parametrize(
    ("state", "ends"),
    [
        ({}, True),
        ({"closing": False}, False),
        ({"unsent": 1}, False),
        ({"tls": True}, False),
    ],
    ids=["nothing is left to do", "it is open", "bytes wait for the peer", "TLS asks the peer"],
)
def test_a_connection_ends_now_where_nothing_waits_for_the_peer(state: dict[str, Any], ends: bool) -> None:
    """Then nobody need watch over its end."""
    wire = TransportWire(Transport(**state), None)
    assert wire.ends_now() is ends


def test_a_connection_that_is_lost_has_ended() -> None:
    """Whatever its transport says."""
    wire = TransportWire(Transport(unsent=1), None)
    wire.lost = True
    assert wire.ends_now()
