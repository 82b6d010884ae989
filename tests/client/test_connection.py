"""The client over real sockets, against the machines of the server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from tests.client.reference_server import reference_server
from wsstab.client import actions
from wsstab.client.connection import ClientClosedError, connect
from wsstab.client.heartbeat import Timeouts
from wsstab.client.states import ClientState
from wsstab.core.protocol import Outcome

pytestmark = pytest.mark.anyio

QUICK: dict[str, Any] = {"min_delay": 0.01, "max_delay": 0.05}


@pytest.fixture
def anyio_backend() -> str:
    """The ``websockets`` library runs on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test of a client that never gives up may wait without end."""
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(30, task.cancel)
    yield
    timer.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)


async def test_messages_go_and_come() -> None:
    """Text and binary, and texts that look like control messages."""
    async with reference_server() as server, connect(server.url) as websocket:
        assert websocket.state is ClientState.ATTACHED
        for message in ("a", "\x1e{}", "é" * 100_000):
            await websocket.send(message)
            assert await websocket.recv() == f"1:{message}"
        await websocket.send(b"\x00\xff")
        assert await websocket.recv() == b"\x00\xff"
        assert websocket.session.outcome is Outcome.FRESH
    assert repr(websocket) == "<ClientConnection [closed | 0 unread]>"
    assert len(server.hosts) == 1


async def test_iterating_ends_with_the_connection() -> None:
    """The handler returns after two messages."""
    async with reference_server() as server, connect(server.url) as websocket:
        for message in ("a", "b", "return"):
            await websocket.send(message)
        assert [message async for message in websocket] == ["1:a", "1:b"]
        with pytest.raises(ClientClosedError, match="closed with 1000 done"):
            await websocket.recv()
        with pytest.raises(ClientClosedError):
            await websocket.send("c")


async def test_a_cut_tcp_connection_loses_nothing() -> None:
    """Both sides talk while their connections are reset again and again."""
    chance, count = random.Random(1), 3000
    events: list[Any] = []
    async with reference_server() as server, connect(server.url, on_event=events.append, **QUICK) as websocket:

        async def cut() -> None:
            while True:
                await anyio.sleep(chance.uniform(0.01, 0.05))
                server.carriers[-1].cut()

        async def talk() -> None:
            for number in range(count):
                await websocket.send(str(number))
                if number % 20 == 0:
                    await anyio.sleep(0.005)

        async with anyio.create_task_group() as group:
            group.start_soon(cut)
            group.start_soon(talk)
            with anyio.fail_after(60):
                got = [await websocket.recv() for _ in range(count)]
            group.cancel_scope.cancel()
    assert got == [f"1:{number}" for number in range(count)]
    assert server.hosts[0].heard == [str(number) for number in range(count)]
    assert len(server.hosts) == 1
    assert sum(isinstance(event, actions.Detached) for event in events) >= 5
    assert sum(isinstance(event, actions.Resumed) for event in events) >= 5


async def test_messages_are_kept_while_there_is_no_carrier() -> None:
    """They go out with the next one."""
    events: list[Any] = []
    options: dict[str, Any] = {"on_event": events.append, "min_delay": 0.5}
    async with reference_server() as server, connect(server.url, **options) as websocket:
        server.carriers[-1].cut()
        await until(lambda: len(events) >= 2)
        assert isinstance(events[1], actions.Detached)
        await websocket.send("a")
        assert await websocket.recv() == "1:a"
        assert websocket.session.outcome is Outcome.RESUMED


async def test_a_server_that_has_forgotten_begins_anew() -> None:
    """The client tells which messages it cannot know to have arrived."""
    events: list[Any] = []
    async with reference_server() as server, connect(server.url, on_event=events.append, **QUICK) as websocket:
        await websocket.send("silence")
        await until(lambda: server.hosts[0].heard)
        server.forget()
        await until(lambda: len(server.hosts) == 2 and websocket.state is ClientState.ATTACHED)
        await websocket.send("a")
        assert await websocket.recv() == "2:a"
    assert actions.Lost(("silence",)) in events
    assert [event for event in events if isinstance(event, actions.Opened)][1].why == "unknown"


async def test_a_handler_that_raises_is_followed_by_another() -> None:
    """Its goodbye says that the client may come back."""
    async with reference_server() as server, connect(server.url, **QUICK) as websocket:
        await websocket.send("raise")
        await until(lambda: len(server.hosts) == 2 and websocket.state is ClientState.ATTACHED)
        await websocket.send("a")
        assert await websocket.recv() == "2:a"


async def test_send_waits_while_too_much_is_unacknowledged() -> None:
    """The window of the client has four messages here; the server acknowledges after two."""
    async with reference_server(max_messages=8) as server, connect(server.url, max_messages=4) as websocket:
        with anyio.fail_after(10):
            for _ in range(100):
                await websocket.send("silence")
        await until(lambda: len(server.hosts[0].heard) == 100)


async def test_close_waits_for_the_answer_and_resumes_to_get_it() -> None:
    """A close whose carrier dies is said again."""
    async with reference_server() as server, connect(server.url, **QUICK) as websocket:
        await websocket.send("a")
        server.carriers[-1].cut()
        with anyio.fail_after(10):
            await websocket.close(3001, "bye")
        assert server.hosts[0].heard == ["a"]
        # What had arrived before may still be read.
        assert [message async for message in websocket] in ([], ["1:a"])
        with pytest.raises(ClientClosedError, match="closed with 3001 bye"):
            await websocket.recv()


async def test_the_selected_subprotocol_and_fresh_headers_reach_the_other_side() -> None:
    """Functions are asked before each attempt, so that a token can be new."""
    tokens = iter(range(100))

    async def headers() -> dict[str, str]:
        return {"authorization": f"Bearer {next(tokens)}"}

    async with reference_server() as server:
        options: dict[str, Any] = {"subprotocols": ["chat"], "headers": headers, **QUICK}
        async with connect(lambda: server.url, **options) as websocket:
            assert websocket.protocol == "chat"
            websocket.reconnect()
            await until(lambda: websocket.session.outcome is Outcome.RESUMED)
    assert [each["authorization"] for each in server.headers] == ["Bearer 0", "Bearer 1"]


async def test_a_server_without_the_protocol_is_an_ordinary_websocket() -> None:
    """The client says so."""
    events: list[Any] = []
    async with reference_server() as server:
        server.speaks = False
        options: dict[str, Any] = {"subprotocols": ["chat"], "on_event": events.append, **QUICK}
        async with connect(server.url, **options) as websocket:
            assert (websocket.state, websocket.protocol) == (ClientState.PLAIN, "chat")
            await websocket.send("\x1ea")
            assert await websocket.recv() == "\x1ea"
            assert websocket.session.outcome is None
    assert events[0] == actions.Plain("chat")


async def test_a_server_that_is_not_there_yet_is_waited_for() -> None:
    """Also if what gives the address fails at first."""
    async with reference_server() as server:
        urls = iter(["", "ws://127.0.0.1:9/", *[server.url] * 10])

        def url() -> str:
            found = next(urls)
            if not found:
                raise ValueError("on purpose")
            return found

        with anyio.fail_after(10):
            async with connect(url, **QUICK) as websocket:
                await websocket.send("a")
                assert (await websocket.recv()) in ("1:a", "a")


async def test_a_callback_that_fails_is_logged_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The message still arrives."""

    def fail(event: object) -> None:
        raise ValueError("on purpose")

    async with reference_server() as server, connect(server.url, on_event=fail) as websocket:
        await websocket.send("a")
        assert await websocket.recv() == "1:a"
    assert "a callback failed" in caplog.text


async def test_attempts_that_are_given_up_leave_nothing() -> None:
    """A server that never answers a handshake is asked again and again."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    client = connect(url, timeouts=Timeouts(handshake=0.05), **QUICK)
    async with listener:
        connecting = asyncio.get_running_loop().create_task(client.__aenter__())
        await until(lambda: client._machine.attempt >= 5)
        connection = client._connection
        assert connection is not None
        # The newest, and one that is just being cancelled.
        assert len(connection._carriers) <= 2
        connecting.cancel()
        await asyncio.wait([connecting])
        assert (connection._carriers, connection._tasks) == ({}, set())


async def test_unread_messages_are_bounded_and_do_not_hold_up_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing is read, until the application closes."""
    monkeypatch.setattr("wsstab.client.connection.MOST_UNREAD", 5)
    async with reference_server() as server, connect(server.url) as websocket:
        for number in range(50):
            await websocket.send(str(number))
        await until(lambda: len(websocket._inbox) == 5)
        await until(lambda: len(server.hosts[0].heard) == 50)
        assert len(websocket._inbox) == 5
        assert [await websocket.recv() for _ in range(20)] == [f"1:{number}" for number in range(20)]
        with anyio.fail_after(5):
            await websocket.close()


async def test_unread_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few large messages count as many small ones."""
    monkeypatch.setattr("wsstab.client.connection.MOST_UNREAD_BYTES", 1000)
    async with reference_server() as server, connect(server.url) as websocket:
        for _ in range(6):
            await websocket.send("x" * 600)
        await until(lambda: len(server.hosts[0].heard) == 6)
        await until(lambda: len(websocket._inbox) == 2)
        assert [len(await websocket.recv()) for _ in range(6)] == [602] * 6


async def test_nothing_is_left_behind() -> None:
    """Neither a task nor a socket, even if the block is left by an error."""
    async with reference_server() as server:
        before = asyncio.all_tasks()
        with pytest.raises(ValueError, match="on purpose"):
            async with connect(server.url):
                raise ValueError("on purpose")
        await until(
            lambda: {task for task in asyncio.all_tasks() - before if "client" in repr(task.get_coro())} == set()
        )


async def test_the_representation_is_a_sentence() -> None:
    """It shows no secret."""
    async with reference_server() as server, connect(server.url) as websocket:
        assert repr(websocket) == "<ClientConnection [attached | 0 unread]>"
