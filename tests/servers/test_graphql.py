"""A wrapped GraphQL application of strawberry, with the client of gql, over ``graphql-transport-ws``."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from tests.conftest import MakeServer
from tests.support.server import Server, Variant

pytestmark = pytest.mark.anyio

COUNT = "subscription ($upto: Int!, $pause: Float!) { count(upto: $upto, pause: $pause) }"


@pytest.fixture
def wrapped(serve: MakeServer, variant: Variant) -> Server:
    """The application on a server, with heartbeats that are frequent enough to disturb it."""
    return serve("tests.support.apps.graphql:app", variant, {"heartbeat_interval": 0.2, "drain": {"timeout": 5.0}})


def client_of(server: Server) -> Client:
    """A client that speaks the subprotocol."""
    url = "ws://{}:{}/graphql".format(*server.address)
    protocols: Any = [WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL]
    return Client(transport=WebsocketsTransport(url, subprotocols=protocols), execute_timeout=10)


async def numbers(session: Any, upto: int, pause: float = 0.0) -> list[int]:
    """All numbers that a subscription yields."""
    request = gql(COUNT)
    request.variable_values = {"upto": upto, "pause": pause}
    return [result["count"] async for result in session.subscribe(request)]


async def test_subscriptions_run_to_their_ends(wrapped: Server) -> None:
    """Two of them run at once on one socket, together with our heartbeats, a broadcast and a query."""
    got: dict[str, list[int]] = {}

    async def subscribe(session: Any, name: str, upto: int, pause: float) -> None:
        got[name] = await numbers(session, upto, pause)

    async with client_of(wrapped) as session:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(subscribe, session, "slow", 10, 0.1)
                group.start_soon(subscribe, session, "fast", 500, 0.0)
                assert await anyio.to_thread.run_sync(wrapped.get, "/-/shout")
                assert "running" in await session.execute(gql("{ running }"))
        assert (await session.execute(gql("{ running }"))) == {"running": 0}
        assert got == {"slow": list(range(10)), "fast": list(range(500))}
        # Checked while the client is connected: strawberry logs an error when its last "complete" finds no peer.
        # In an eager task a subscription may be over before strawberry has noted that it began.
        forgiven = ["KeyError"] * (wrapped.mode == "eager")
        assert wrapped.complaints(forgiven=forgiven) == [], wrapped.log


async def test_a_client_may_leave_a_subscription(wrapped: Server) -> None:
    """The generator of the subscription ends, and the socket serves the next one."""
    async with client_of(wrapped) as session:
        request = gql(COUNT)
        request.variable_values = {"upto": 1_000_000, "pause": 0.01}
        subscription = session.subscribe(request)
        assert (await anext(subscription))["count"] == 0
        await subscription.aclose()
        with anyio.fail_after(10):
            while (await session.execute(gql("{ running }"))) != {"running": 0}:
                await anyio.sleep(0.02)
        assert await numbers(session, 3) == [0, 1, 2]


async def test_a_client_that_leaves_ends_its_subscriptions(wrapped: Server) -> None:
    """The manager keeps no connection, and no subscription is running."""
    async with client_of(wrapped) as session:
        request = gql(COUNT)
        request.variable_values = {"upto": 1_000_000, "pause": 0.01}
        assert (await anext(session.subscribe(request)))["count"] == 0
    with anyio.fail_after(10):
        while (await anyio.to_thread.run_sync(wrapped.get, "/-/count"))["connections"] != 0:
            await anyio.sleep(0.02)
    async with client_of(wrapped) as session:
        assert (await session.execute(gql("{ running }"))) == {"running": 0}
