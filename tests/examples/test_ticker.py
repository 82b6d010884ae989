"""The example that only pushes messages."""

from __future__ import annotations

from starlette.testclient import TestClient

from examples.ticker import PRICES, app, manager
from tests.support.waiting import eventually


def test_a_reader_gets_the_price_of_every_symbol() -> None:
    """Three rounds arrive, with messages of the known symbols only."""
    with TestClient(app) as client, client.websocket_connect("/prices") as reader:
        heard = [reader.receive_json() for _ in range(3 * len(PRICES))]
    assert {price["symbol"] for price in heard} == set(PRICES)
    assert all(price["price"] > 0 for price in heard)


def test_a_handler_that_never_receives_ends_when_its_reader_leaves() -> None:
    """The connection does not stay listed."""
    with TestClient(app) as client:
        with client.websocket_connect("/prices") as reader:
            reader.receive_json()
            assert manager.get_connection_count() == 1
        eventually(lambda: manager.get_connection_count() == 0, within=10)
