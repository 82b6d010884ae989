"""Delivery: which connections get a message, and that the reported counts are true."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from tests.published.doubles import fleet
from tests.support.stage import on_stage, push_only, settle
from wsstab import (
    BroadcastFailedError,
    BroadcastResult,
    Outbound,
    WebSocketConnectionManager,
    WebSocketStabilizer,
)
from wsstab.reports import MAX_ERRORS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


async def test_the_total_of_a_broadcast_includes_excluded_clients() -> None:
    """``succeeded`` counts those that got the message."""
    async with on_stage(push_only) as stage:
        ann, bob, _cid = await stage.named("ann", "bob", "cid")
        result = await stage.manager.broadcast("hello", exclude_client="ann")
        assert result == BroadcastResult(total=3, succeeded=2, failed=0)
        assert await bob.hears() == ["hello"]
        assert ann.messages == []


@pytest.mark.parametrize("exclude", ["ann", ["ann"], {"ann", "nobody"}, ("ann", "ann")])
async def test_exclude_takes_one_name_or_several(exclude: Any) -> None:
    """A string is one name, not a sequence of letters. ``exclude`` adds to ``exclude_client``."""
    async with on_stage(push_only) as stage:
        ann, a, cid = await stage.named("ann", "a", "cid")
        result = await stage.manager.broadcast("x", "cid", exclude=exclude)
        assert (result.total, result.succeeded) == (3, 1)
        assert await a.hears() == ["x"]
        assert ann.messages == cid.messages == []


async def test_a_broadcast_to_a_room_reaches_its_members_only() -> None:
    """A broadcast to an empty room is no failure."""
    async with on_stage(push_only) as stage:
        ann, bob = await stage.named("ann", "bob")
        await stage.manager.join("ann", "lobby")
        assert await stage.manager.broadcast("x", room="lobby") == BroadcastResult(total=1, succeeded=1)
        assert await ann.hears() == ["x"]
        assert bob.messages == []
        assert await stage.manager.broadcast("x", room="nowhere") == BroadcastResult()


async def test_broadcast_to_clients_reaches_each_named_client_once() -> None:
    """Names that nobody holds are not counted."""
    async with on_stage(push_only) as stage:
        ann, bob, cid = await stage.named("ann", "bob", "cid")
        result = await stage.manager.broadcast_to_clients(["ann", "bob", "ann", "nobody"], {"n": 1})
        assert (result.total, result.succeeded) == (2, 2)
        for peer in (ann, bob):
            assert len(await peer.hears()) == 1
        assert cid.messages == []
        assert await stage.manager.broadcast_to_clients(["nobody"], "x") == BroadcastResult()


async def test_all_connections_of_one_client_are_reached() -> None:
    """With ``duplicate_client="allow"`` a name may have several; excluding it excludes all of them."""
    async with on_stage(push_only, duplicate_client="allow") as stage:
        peers = await stage.named("ann", "ann", "bob")
        assert await stage.manager.send_to_client("ann", "1")
        assert (await stage.manager.broadcast("2", exclude_client="ann")).succeeded == 1
        assert (await stage.manager.broadcast_to_clients(["ann"], "3")).total == 2
        await settle()
        assert [peer.messages for peer in peers] == [["1", "3"], ["1", "3"], ["2"]]


async def test_the_result_tells_queued_and_dropped_messages_apart() -> None:
    """Queued messages count as succeeded, dropped ones as failed."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=1, policy="drop_newest")) as stage:
        _, slow = await stage.named("ann", "slow")
        slow.stall()
        first = await stage.manager.broadcast("one")
        await settle()
        second = await stage.manager.broadcast("two")
        third = await stage.manager.broadcast("three")
        assert (first.succeeded, first.failed) == (2, 0)
        counts = [(each.succeeded, each.queued, each.failed, each.dropped) for each in (second, third)]
        assert (1, 0, 1, 1) in counts
        assert third.errors == [("slow", "dropped: slow consumer")]
        assert stage.manager.statistics().broadcasts == 3


async def test_a_connection_that_a_broadcast_closes_is_in_the_errors() -> None:
    """Under the policy ``close`` its message counts as dropped and failed."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=1)) as stage:
        _, slow = await stage.named("ann", "slow")
        assert slow.wire is not None
        slow.wire.block()
        slow.inner.services.backpressure.lagging[slow.inner].patience = 0
        results = [await stage.manager.broadcast(str(number)) for number in range(2)]
        assert [(each.queued, each.dropped, each.errors) for each in results] == [
            (1, 0, []),
            (0, 1, [("slow", "closed: slow consumer")]),
        ]


async def test_a_broadcast_that_reaches_nobody_raises_with_its_result() -> None:
    """Every message was dropped."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=1, policy="drop_newest")) as stage:
        (slow,) = await stage.named("slow")
        slow.stall()
        await stage.manager.broadcast("fits")
        await settle()
        with pytest.raises(BroadcastFailedError) as caught:
            await stage.manager.broadcast("does not")
        assert (caught.value.result.total, caught.value.result.dropped) == (1, 1)


async def test_excluding_the_only_client_is_no_failure() -> None:
    """Nothing was tried, so nothing failed."""
    async with on_stage(push_only) as stage:
        await stage.named("ann")
        assert await stage.manager.broadcast("x", "ann") == BroadcastResult(total=1)


async def test_only_the_first_hundred_errors_are_kept() -> None:
    """All failures are counted."""
    names = [f"n{number}" for number in range(MAX_ERRORS + 20)]
    manager, sockets = await fleet("healthy", *names)
    for socket in sockets[1:]:
        socket.send_text.side_effect = OSError("broken")
    result = await manager.broadcast("x")
    assert (result.succeeded, result.failed, len(result.errors)) == (1, MAX_ERRORS + 20, MAX_ERRORS)
    assert result.errors[0][1] == "broken"


async def test_an_exception_without_a_message_is_reported_by_its_class() -> None:
    """An empty error text would help nobody."""
    manager, sockets = await fleet("ann", "bob")
    sockets[0].send_text.side_effect = RuntimeError
    assert (await manager.broadcast("x")).errors == [("ann", "RuntimeError")]


async def test_a_broadcast_reaches_doubles_and_peers_of_the_middleware() -> None:
    """Both are in one audience, but get the message in different ways."""
    async with on_stage(push_only) as stage:
        (ann,) = await stage.named("ann")
        double = AsyncMock()
        await stage.manager.connect("double", double)
        result = await stage.manager.broadcast({"n": 1})
        assert (result.total, result.succeeded) == (2, 2)
        assert len(await ann.hears()) == 1
        double.send_json.assert_awaited_once_with({"n": 1})
        await stage.manager.disconnect("double")


async def test_a_double_that_joins_a_room_after_a_broadcast_does_not_get_it() -> None:
    """Nor is it mistaken for a peer of the middleware, which would cost it its connection."""
    async with on_stage(push_only) as stage:
        (ann,) = await stage.named("ann")
        await ann.connection.join("room")
        double = AsyncMock()
        await stage.manager.connect("double", double)
        await stage.manager.broadcast("before", room="room")
        await stage.manager.join("double", "room")
        assert await ann.hears() == ["before"]
        await stage.manager.broadcast("after", room="room")
        assert await ann.hears(2) == ["before", "after"]
        double.send_text.assert_awaited_once_with("after")
        await stage.manager.disconnect("double")


async def test_a_broadcast_of_an_unsupported_type_raises_type_error() -> None:
    """It raises before anybody gets anything."""
    async with on_stage(push_only) as stage:
        (ann,) = await stage.named("ann")
        with pytest.raises(TypeError):
            await stage.manager.broadcast(object())  # type: ignore[arg-type]
        await settle()
        assert ann.messages == []


async def test_connections_with_a_protocol_of_their_own_get_no_unasked_broadcasts() -> None:
    """They get them once they have a name or are in a room."""

    async def speaker(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="graphql-ws" if websocket.url.path == "/graphql" else None)
        await anyio.sleep_forever()

    engine = b"EIO=4&transport=websocket"
    async with on_stage(speaker) as stage:
        graphql, socketio = await stage.open("/graphql"), await stage.open("/socket.io/", query_string=engine)
        plain = await stage.open("/plain")
        assert (await stage.manager.broadcast("1")).total == 1
        await stage.manager.join(graphql.connection.client_id, "lobby")
        await stage.manager.connect("sid", WebSocket(socketio.scope, socketio.receive, socketio.send))
        assert (await stage.manager.broadcast("2")).total == 3
        await settle()
        assert (plain.messages, graphql.messages, socketio.messages) == (["1", "2"], ["2"], ["2"])


async def test_a_route_with_broadcast_off_still_gets_those_to_its_rooms() -> None:
    """``broadcast=False`` applies to connections with a name as well."""
    async with on_stage(push_only, broadcast=False) as stage:
        (ann,) = await stage.named("ann")
        await stage.manager.join("ann", "lobby")
        assert (await stage.manager.broadcast("1")).total == 0
        assert (await stage.manager.broadcast("2", room="lobby")).total == 1
        assert await ann.hears() == ["2"]


def served(manager: WebSocketConnectionManager) -> WebSocketStabilizer:
    """An application whose sockets are named by their path."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await manager.connect(websocket.path_params["name"], websocket)
        await websocket.send_text("ready")
        await websocket.receive()

    return WebSocketStabilizer(Starlette(routes=[WebSocketRoute("/{name}", endpoint)]), manager=manager)


def test_a_message_to_a_peer_of_another_loop_counts_as_queued() -> None:
    """Each connection of Starlette's test client has an event loop of its own."""
    manager = WebSocketConnectionManager()
    client = TestClient(served(manager))

    async def speak() -> tuple[BroadcastResult, bool]:
        return await manager.broadcast("all", exclude_client="cid"), await manager.send_to_client("bob", "direct")

    with (
        client.websocket_connect("/ann") as ann,
        client.websocket_connect("/bob") as bob,
        client.websocket_connect("/cid") as cid,
    ):
        for socket in (ann, bob, cid):
            assert socket.receive_text() == "ready"
        result, sent = anyio.run(speak)
        assert (result.total, result.succeeded, result.queued, sent) == (3, 2, 2, True)
        assert (ann.receive_text(), bob.receive_text(), bob.receive_text()) == ("all", "all", "direct")
        anyio.run(manager.disconnect, "cid", 4000)
        assert cid.receive()["code"] == 4000


def test_one_broadcast_reaches_peers_of_this_loop_and_of_others() -> None:
    """The handler that broadcasts shares its loop with its own peer, but not with the other one."""
    manager = WebSocketConnectionManager()
    results: list[BroadcastResult] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("ready")
        async for text in websocket.iter_text():
            results.append(await manager.broadcast(text))

    client = TestClient(WebSocketStabilizer(Starlette(routes=[WebSocketRoute("/", endpoint)]), manager=manager))
    with client.websocket_connect("/") as ann, client.websocket_connect("/") as bob:
        assert ann.receive_text() == bob.receive_text() == "ready"
        ann.send_text("hello")
        assert ann.receive_text() == bob.receive_text() == "hello"
    assert (results[0].total, results[0].succeeded) == (2, 2)
    assert results[0].queued >= 1
