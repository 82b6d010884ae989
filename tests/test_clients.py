"""`wsstab.clients`: whom a name means, and who may have it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stage import on_stage
from wsstab import ConnectionLimitExceededError, ConnectionNotFoundError
from wsstab.clients import Clients
from wsstab.connection import current_connection
from wsstab.events import LimitHit

pytestmark = pytest.mark.anyio


async def test_a_name_means_all_that_hold_it_and_in_its_own_handler_only_itself() -> None:
    """An id that nobody holds is an error, wherever it is asked for."""
    async with on_stage(duplicate_client="allow") as stage:
        first, second = await stage.named("ann", "ann")
        clients = Clients(stage.manager, stage.manager.registry, stage.manager.emit)
        assert set(clients.addressed("ann")) == {first.connection, second.connection}
        assert clients.own("ann") is None
        token = current_connection.set(first.connection)
        assert clients.addressed("ann") == (first.connection,)
        with pytest.raises(ConnectionNotFoundError):
            clients.addressed("bob")
        current_connection.reset(token)


async def test_in_a_handler_its_name_means_itself_after_its_end_too() -> None:
    """So a late goodbye does nothing to who took the name."""
    async with on_stage() as stage:
        (old,) = await stage.named("ann")
        (new,) = await stage.named("ann")
        clients = Clients(stage.manager, stage.manager.registry, stage.manager.emit)
        assert clients.addressed("ann") == (new.connection,)
        token = current_connection.set(old.connection)
        assert clients.addressed("ann") == (old.connection,)
        current_connection.reset(token)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"duplicate_client": "reject"}, "duplicate_client"),
        ({"duplicate_client": "allow", "max_connections_per_client": 1}, "max_connections_per_client"),
    ],
    ids=["reject", "limit"],
)
async def test_a_name_that_may_not_be_had_is_refused_with_an_event(options: dict[str, Any], limit: str) -> None:
    """The one that holds it stays."""
    async with on_stage(**options) as stage:
        (holder,) = await stage.named("ann")
        (other,) = await stage.named("bob")
        told = list[LimitHit]()
        clients = Clients(stage.manager, stage.manager.registry, told.append)  # type: ignore[arg-type]
        with pytest.raises(ConnectionLimitExceededError):
            clients.others(other.connection, "ann")
        assert [event.limit for event in told] == [limit]
        assert clients.others(holder.connection, "ann") == []


async def test_whoever_is_replaced_must_go() -> None:
    """All that held the name, but not the one who takes it."""
    async with on_stage() as stage:
        (holder,) = await stage.named("ann")
        (other,) = await stage.named("bob")
        clients = Clients(stage.manager, stage.manager.registry, stage.manager.emit)
        assert clients.others(other.connection, "ann") == [holder.connection]
        assert clients.others(holder.connection, "ann") == []
