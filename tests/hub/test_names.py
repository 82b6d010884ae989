"""`wsstab.hub.names`: which connections a name addresses, and which connection may take it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Peer, echo, on_stage, settle
from wsstab import ConnectionLimitExceededError, ConnectionNotFoundError, MemoryLimitExceededError, WebSocketConfig
from wsstab.close import CLIENT_LIMIT, DUPLICATE_CLIENT, Close
from wsstab.connection import current_peer
from wsstab.events import ConnectionIdentified, LimitHit
from wsstab.hub.names import limit_of

pytestmark = pytest.mark.anyio


async def test_a_name_addresses_all_holders_but_in_their_handlers_only_their_own_peer() -> None:
    """A name that nobody holds is an error, also inside a handler."""
    async with on_stage(duplicate_client="allow") as stage:
        first, second = await stage.named("ann", "ann")
        clients = stage.hub.clients
        assert set(clients.addressed("ann")) == {first.inner, second.inner}
        assert clients.own("ann") is None
        token = current_peer.set(first.inner)
        assert clients.addressed("ann") == (first.inner,)
        with pytest.raises(ConnectionNotFoundError):
            clients.addressed("bob")
        current_peer.reset(token)


async def test_in_a_handler_its_own_name_addresses_its_own_peer_even_after_its_end() -> None:
    """A late ``disconnect()`` therefore spares the connection that has taken the name since."""
    async with on_stage() as stage:
        (old,) = await stage.named("ann")
        (new,) = await stage.named("ann")
        clients = stage.hub.clients
        assert clients.addressed("ann") == (new.inner,)
        token = current_peer.set(old.inner)
        assert clients.addressed("ann") == (old.inner,)
        current_peer.reset(token)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"duplicate_client": "reject"}, "duplicate_client"),
        ({"duplicate_client": "allow", "max_connections_per_client": 1}, "max_connections_per_client"),
    ],
    ids=["reject", "limit"],
)
async def test_a_name_that_may_not_be_taken_is_refused_with_an_event(options: dict[str, Any], limit: str) -> None:
    """Its holder keeps it."""
    async with on_stage(**options) as stage:
        (holder,) = await stage.named("ann")
        (other,) = await stage.named("bob")
        told = list[LimitHit]()
        stage.manager.on(LimitHit, told.append)
        clients = stage.hub.clients
        with pytest.raises(ConnectionLimitExceededError):
            clients.others(other.inner, "ann")
        assert [event.limit for event in told] == [limit]
        assert clients.others(holder.inner, "ann") == []


async def test_others_lists_the_connections_that_taking_a_name_replaces() -> None:
    """The connection that takes the name is not among them."""
    async with on_stage() as stage:
        (holder,) = await stage.named("ann")
        (other,) = await stage.named("bob")
        clients = stage.hub.clients
        assert clients.others(other.inner, "ann") == [holder.inner]
        assert clients.others(holder.inner, "ann") == []


class Early:
    """A handler that takes a name, rooms and user data before accept, and accepts when the test lets it."""

    def __init__(self) -> None:
        self.accept = anyio.Event()
        self.errors: list[Exception] = []

    async def __call__(self, websocket: WebSocket) -> None:
        if websocket.url.path != "/early":
            return await echo(websocket)
        manager, connection = websocket.state.manager, websocket.state.connection
        try:
            await manager.connect("ann", websocket, {"a": "x" * 100})
            await manager.join("ann", "lobby")
            await connection.join("attic")
            await connection.join("cellar")
            await connection.leave("cellar")
            await manager.leave("ann", "nowhere")
            await manager.set_user_data("ann", "b", "y" * 100)
            await manager.set_user_data("ann", "c", "z" * 100)
        except Exception as error:
            self.errors.append(error)
            raise
        await self.accept.wait()
        return await echo(websocket)


async def test_a_name_chosen_before_accept_is_taken_at_accept() -> None:
    """Until then its holder keeps it, because the handshake may still be refused."""
    early = Early()
    async with on_stage(early) as stage:
        (holder,) = await stage.named("ann")
        peer = stage.call(Peer("/early"))
        await settle()
        assert stage.manager.get_connection("ann") is holder.connection
        assert (holder.connection.rooms, stage.manager.get_rooms()) == (frozenset(), [])
        early.accept.set()
        await holder.over()
        await settle()
        assert holder.closed == (4409, "replaced by a newer connection")
        assert stage.manager.get_connection("ann") is peer.connection
        assert stage.manager.get_rooms("ann") == ["attic", "lobby"]
        assert (await stage.manager.broadcast("hi", room="lobby")).succeeded == 1
        assert await peer.hears() == ["hi"]
        assert await stage.manager.get_user_data("ann", "b") == "y" * 100
        assert peer.inner.memory == stage.manager.get_memory_usage()["total_memory"] > 300


async def test_a_connection_whose_chosen_name_is_taken_meanwhile_is_closed() -> None:
    """The close code is that of the error which ``connect()`` would have raised."""
    early = Early()
    async with on_stage(early, duplicate_client="reject") as stage:
        peer = stage.call(Peer("/early"))
        await settle()
        (holder,) = await stage.named("ann")
        early.accept.set()
        await peer.over()
        assert peer.closed == (4409, "client id is taken")
        assert stage.manager.get_connection("ann") is holder.connection
        assert stage.manager.get_rooms() == []


async def test_connect_before_accept_refuses_a_name_that_is_taken() -> None:
    """The error is the same as after accept, and its status reaches the client."""
    early = Early()
    async with on_stage(early, duplicate_client="reject") as stage:
        await stage.named("ann")
        peer = stage.call(Peer("/early"))
        await peer.over()
        assert peer.sent[0]["status"] == 409
    assert [type(error) for error in early.errors] == [ConnectionLimitExceededError]


async def test_a_pending_handshake_is_expected_under_its_name() -> None:
    """It is until it is complete or has failed. Closing connections are counted under their name, too."""
    async with on_stage() as stage:
        (holder,) = await stage.named("ann")
        clients = stage.hub.clients
        assert (clients.held("ann"), clients.held("bob"), clients.expected("bob")) == (1, 0, 0)
        clients.expect(holder.inner, "bob")
        assert clients.expected("bob") == 1
        clients.expect_no_more(holder.inner)
        clients.expect_no_more(holder.inner)
        assert clients.expected("bob") == 0
        clients.leaves("bob")
        assert clients.leaving("bob") == 1
        clients.has_left("bob")
        assert clients.leaving("bob") == 0


async def test_one_replacement_at_a_time_may_exceed_the_limit() -> None:
    """The replaced peer and its successor both hold a place until the replaced one has left."""
    async with on_stage() as stage:
        (holder,) = await stage.named("ann")
        clients, replace = stage.hub.clients, WebSocketConfig(duplicate_client="replace")
        assert clients.may_replace("ann", replace)
        assert not clients.may_replace("bob", replace)
        assert not clients.may_replace("ann", WebSocketConfig(duplicate_client="allow"))
        clients.leaves("ann")
        assert not clients.may_replace("ann", replace)
        clients.has_left("ann")
        assert clients.may_replace("ann", replace)
        clients.expect(holder.inner, "ann")
        assert not clients.may_replace("ann", replace)
        clients.expect_no_more(holder.inner)


async def test_memory_kept_before_accept_is_limited() -> None:
    """It counts in the total only from accept on."""
    early = Early()
    async with on_stage(early, max_memory_per_connection=600) as stage:
        peer = stage.call(Peer("/early"))
        await peer.over()
        assert peer.sent[0]["status"] == 503
    assert [type(error) for error in early.errors] == [MemoryLimitExceededError]


async def test_a_refused_handshake_leaves_no_name_and_no_room() -> None:
    """Its handler chose both before it refused."""

    async def refuse(websocket: WebSocket) -> None:
        await websocket.state.manager.connect("ann", websocket)
        await websocket.state.connection.join("lobby")
        await websocket.close()

    async with on_stage(refuse) as stage:
        await stage.call(Peer()).over()
        assert (stage.manager.get_active_connections(), stage.manager.get_rooms()) == ([], [])


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"duplicate_client": "replace"}, None),
        ({"duplicate_client": "reject"}, DUPLICATE_CLIENT.because("client id is taken")),
        ({"duplicate_client": "allow"}, None),
        ({"duplicate_client": "allow", "max_connections_per_client": 2}, None),
        ({"duplicate_client": "allow", "max_connections_per_client": 1}, CLIENT_LIMIT),
    ],
    ids=["replace", "reject", "allow", "within the limit", "limit"],
)
async def test_before_accept_it_is_known_whether_a_held_name_may_be_taken(
    options: dict[str, Any], refusal: Close | None
) -> None:
    """A name that nobody holds may always be taken."""
    async with on_stage() as stage:
        await stage.named("ann")
        config = WebSocketConfig(**options)
        assert stage.hub.clients.refusal_of("ann", config) == refusal
        assert stage.hub.clients.refusal_of("bob", config) is None


async def test_a_pending_handshake_counts_against_the_limit_of_its_name() -> None:
    """Otherwise many simultaneous handshakes would all be let in."""
    async with on_stage() as stage:
        (holder,) = await stage.named("ann")
        config = WebSocketConfig(duplicate_client="allow", max_connections_per_client=2)
        assert stage.hub.clients.refusal_of("ann", config) is None
        stage.hub.clients.expect(holder.inner, "ann")
        assert stage.hub.clients.refusal_of("ann", config) is CLIENT_LIMIT
        stage.hub.clients.expect_no_more(holder.inner)


async def test_a_name_is_promised_only_to_a_peer_that_may_take_it() -> None:
    """A refusal emits an event. A promised name is expected as long as the call of its peer runs."""
    early = Early()
    async with on_stage(early, duplicate_client="reject") as stage:
        await stage.named("ann")
        told = list[LimitHit]()
        stage.manager.on(LimitHit, told.append)
        (other,) = await stage.named("bob")
        clients = stage.hub.clients
        assert clients.promise(other.inner, "ann") == DUPLICATE_CLIENT.because("client id is taken")
        assert [event.limit for event in told] == ["duplicate_client"]
        assert (other.inner.chosen_id, clients.expected("ann")) == (None, 0)
        assert clients.promise(other.inner, "cid") is None
        assert (other.inner.chosen_id, clients.expected("cid")) == ("cid", 1)
        other.leaves()
        await other.over()
        assert clients.expected("cid") == 0
        assert clients.promise(other.inner, "dan") is None
        assert clients.expected("dan") == 0


async def test_taking_the_name_that_it_has_emits_no_event() -> None:
    """Nothing has changed about the connection."""
    async with on_stage() as stage:
        (holder,) = await stage.named("ann")
        told = list[object]()
        stage.manager.on(ConnectionIdentified, told.append)
        stage.hub.clients.identify(holder.inner, "ann")
        assert told == []
        stage.hub.clients.identify(holder.inner, "bob")
        assert told == [ConnectionIdentified(holder.inner.id, "bob", "ann")]


def test_the_option_behind_a_refusal_is_known() -> None:
    """Two options can refuse a name."""
    assert limit_of(CLIENT_LIMIT) == "max_connections_per_client"
    assert limit_of(DUPLICATE_CLIENT.because("client id is taken")) == "duplicate_client"
