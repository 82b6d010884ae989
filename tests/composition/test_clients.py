"""Protocols of other packages, used by their own clients, bare and wrapped, with our heartbeats beneath."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest
import socketio
from anyio import to_thread
from fastapi_websocket_pubsub import PubSubClient
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from tests.composition.case import BARE, CASES, WRAPPED, Case, on_servers, trouble
from tests.composition.rows import CLIENTS

pytestmark = pytest.mark.anyio


def of(name: str) -> pytest.MarkDecorator:
    """Parametrizes a test with every server on which this composition runs."""
    return on_servers([case for case in CASES[CLIENTS] if case.row.name == name])


def address(case: Case, kind: str, path: str = "") -> str:
    """The URL of a program, without the scheme."""
    return "{}:{}".format(*case.server.address) + case.path(kind, path)


async def both(case: Case, ask: Callable[[str], Any]) -> tuple[Any, Any]:
    """The answers of the bare program and of the wrapped one, and no complaint in the log."""
    start = len(case.server.log)
    with anyio.fail_after(30):
        answers = await ask(BARE), await ask(WRAPPED)
    assert trouble(case.server.log[start:]) == 0, case.server.log[start:]
    return answers


@of("pubsub")
async def test_a_subscriber_gets_the_messages_of_its_topic(case: Case) -> None:
    """The server learns when the subscriber has left."""

    async def ask(kind: str) -> list[str]:
        heard: list[str] = []
        done = asyncio.Event()

        async def hear(data: str, topic: str) -> None:
            heard.append(data)
            if len(heard) == 3:
                done.set()

        before = len(case.look(kind)["notes"])
        async with PubSubClient(["news"], hear, server_uri=f"ws://{address(case, kind, '/pubsub')}") as client:
            await client.wait_until_ready()
            for number in range(3):
                await to_thread.run_sync(case.server.post, case.path(kind, f"/publish?topic=news&data={number}"))
                await asyncio.sleep(0.12)
            await done.wait()
        await to_thread.run_sync(case.notes, kind, before)
        return heard

    bare, wrapped = await both(case, ask)
    assert wrapped == bare == ["0", "1", "2"]


@of("graphql")
async def test_a_subscription_yields_all_its_numbers(case: Case) -> None:
    """They are the same bare and wrapped."""
    document = gql("subscription { count(upto: 5, pause: 0.05) }")

    async def ask(kind: str) -> list[int]:
        protocols: Any = [WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL]
        transport = WebsocketsTransport(f"ws://{address(case, kind)}/graphql", subprotocols=protocols)
        async with Client(transport=transport, execute_timeout=10) as session:
            return [answer["count"] async for answer in session.subscribe(document)]

    bare, wrapped = await both(case, ask)
    assert wrapped == bare == [0, 1, 2, 3, 4]


@asynccontextmanager
async def client_of_socketio(case: Case, kind: str) -> AsyncIterator[socketio.AsyncSimpleClient]:
    """A client that begins by polling."""
    async with aiohttp.ClientSession() as session, socketio.AsyncSimpleClient(http_session=session) as client:
        url = "http://{}:{}".format(*case.server.address)
        await client.connect(url, socketio_path=case.path(kind, "/socket.io"))
        yield client


@of("socketio")
async def test_an_event_is_acknowledged_and_emitted(case: Case) -> None:
    """Text, JSON and binary, over a WebSocket that began as polling; the server learns when the client has left."""

    async def ask(kind: str) -> list[Any]:
        before, answers = len(case.look(kind)["notes"]), []
        async with client_of_socketio(case, kind) as client:
            assert client.transport == "websocket"
            for message in ("é", {"n": [1, None]}, b"\x00" * 100_000):
                answers.append(await client.call("shout", message, timeout=10))
                answers.append(await client.receive(timeout=10))
        await to_thread.run_sync(case.notes, kind, before)
        return answers

    bare, wrapped = await both(case, ask)
    assert wrapped == bare
    assert len(wrapped) == 6


def test_every_client_has_its_test() -> None:
    """The table has no composition with a client that is not tested here."""
    assert {case.row.name for case in CASES[CLIENTS]} == {"pubsub", "graphql", "socketio"}
