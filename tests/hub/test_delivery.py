"""Delivery: who gets a message, and that what is counted is true."""

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
    """Each test runs on both."""
    return str(request.param)


async def test_a_broadcast_is_counted_before_exclusion() -> None:
    """``total`` is the audience, ``succeeded`` those who got it."""
    async with on_stage(push_only) as stage:
        ann, bob, _cid = await stage.named("ann", "bob", "cid")
        result = await stage.manager.broadcast("hello", exclude_client="ann")
        assert result == BroadcastResult(total=3, succeeded=2, failed=0)
        assert await bob.hears() == ["hello"]
        assert ann.messages == []


@pytest.mark.parametrize("exclude", ["ann", ["ann"], {"ann", "nobody"}, ("ann", "ann")])
async def test_exclude_takes_one_name_or_several(exclude: Any) -> None:
    """A string is one name and not its letters; it adds to ``exclude_client``."""
    async with on_stage(push_only) as stage:
        ann, a, cid = await stage.named("ann", "a", "cid")
        result = await stage.manager.broadcast("x", "cid", exclude=exclude)
        assert (result.total, result.succeeded) == (3, 1)
        assert await a.hears() == ["x"]
        assert ann.messages == cid.messages == []


async def test_a_room_is_an_audience() -> None:
    """Its members and nobody else; an empty one is no failure."""
    async with on_stage(push_only) as stage:
        ann, bob = await stage.named("ann", "bob")
        await stage.manager.join("ann", "lobby")
        assert await stage.manager.broadcast("x", room="lobby") == BroadcastResult(total=1, succeeded=1)
        assert await ann.hears() == ["x"]
        assert bob.messages == []
        assert await stage.manager.broadcast("x", room="nowhere") == BroadcastResult()


async def test_several_clients_by_name() -> None:
    """Each once; names that nobody holds are in no count."""
    async with on_stage(push_only) as stage:
        ann, bob, cid = await stage.named("ann", "bob", "cid")
        result = await stage.manager.broadcast_to_clients(["ann", "bob", "ann", "nobody"], {"n": 1})
        assert (result.total, result.succeeded) == (2, 2)
        for peer in (ann, bob):
            assert len(await peer.hears()) == 1
        assert cid.messages == []
        assert await stage.manager.broadcast_to_clients(["nobody"], "x") == BroadcastResult()


async def test_all_sockets_of_one_client_are_reached() -> None:
    """Under ``duplicate_client="allow"``; and all are excluded."""
    async with on_stage(push_only, duplicate_client="allow") as stage:
        peers = await stage.named("ann", "ann", "bob")
        assert await stage.manager.send_to_client("ann", "1")
        assert (await stage.manager.broadcast("2", exclude_client="ann")).succeeded == 1
        assert (await stage.manager.broadcast_to_clients(["ann"], "3")).total == 2
        await settle()
        assert [peer.messages for peer in peers] == [["1", "3"], ["1", "3"], ["2"]]


async def test_what_waits_counts_as_queued_and_what_is_dropped_as_failed() -> None:
    """Both are told apart from what was handed over."""
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


async def test_whom_a_broadcast_closes_is_told() -> None:
    """Under ``close``: dropped and failed."""
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
    """All were dropped."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=1, policy="drop_newest")) as stage:
        (slow,) = await stage.named("slow")
        slow.stall()
        await stage.manager.broadcast("fits")
        await settle()
        with pytest.raises(BroadcastFailedError) as caught:
            await stage.manager.broadcast("does not")
        assert (caught.value.result.total, caught.value.result.dropped) == (1, 1)


async def test_no_failure_when_the_only_one_is_excluded() -> None:
    """Nothing was tried."""
    async with on_stage(push_only) as stage:
        await stage.named("ann")
        assert await stage.manager.broadcast("x", "ann") == BroadcastResult(total=1)


async def test_only_the_first_hundred_errors_are_kept() -> None:
    """All are counted."""
    names = [f"n{number}" for number in range(MAX_ERRORS + 20)]
    manager, sockets = await fleet("healthy", *names)
    for socket in sockets[1:]:
        socket.send_text.side_effect = OSError("broken")
    result = await manager.broadcast("x")
    assert (result.succeeded, result.failed, len(result.errors)) == (1, MAX_ERRORS + 20, MAX_ERRORS)
    assert result.errors[0][1] == "broken"


async def test_a_failure_without_words_is_named_by_its_class() -> None:
    """An empty line in a log helps nobody."""
    manager, sockets = await fleet("ann", "bob")
    sockets[0].send_text.side_effect = RuntimeError
    assert (await manager.broadcast("x")).errors == [("ann", "RuntimeError")]


async def test_doubles_and_sockets_may_be_mixed() -> None:
    """One audience, two ways."""
    async with on_stage(push_only) as stage:
        (ann,) = await stage.named("ann")
        double = AsyncMock()
        await stage.manager.connect("double", double)
        result = await stage.manager.broadcast({"n": 1})
        assert (result.total, result.succeeded) == (2, 2)
        assert len(await ann.hears()) == 1
        double.send_json.assert_awaited_once_with({"n": 1})
        await stage.manager.disconnect("double")


async def test_a_double_that_enters_a_room_right_after_a_broadcast_to_it_gets_nothing_of_it() -> None:
    """And is not taken for a socket, which would cost it its connection."""
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


async def test_a_broadcast_takes_what_is_a_message_only() -> None:
    """Before anybody gets anything."""
    async with on_stage(push_only) as stage:
        (ann,) = await stage.named("ann")
        with pytest.raises(TypeError):
            await stage.manager.broadcast(object())  # type: ignore[arg-type]
        await settle()
        assert ann.messages == []


async def test_foreign_protocols_are_left_alone() -> None:
    """Unless they were named or joined a room; room or not, nothing lands in them unasked."""

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


async def test_a_route_without_broadcasts_gets_those_of_its_rooms() -> None:
    """``broadcast=False``, even for those with a name."""
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


def test_peers_of_other_loops_are_handed_their_message() -> None:
    """It counts as queued; each test client's socket has a loop of its own."""
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


def test_peers_of_this_loop_and_of_others_are_one_audience() -> None:
    """A handler broadcasts; its own peer is on its loop, the other is not."""
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
