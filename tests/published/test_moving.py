"""README's "Moving": the same program with the published package and with this one, without the middleware.

Each difference is shown with both packages. So is what is the same, so that the README lists no difference too many.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any
from unittest.mock import AsyncMock

import fastapi_websocket_stabilizer as published
import pytest

import wsstab
from tests.support.stage import until

pytestmark = pytest.mark.anyio

Case = Callable[[ModuleType], Awaitable[object]]


@pytest.fixture
def anyio_backend() -> str:
    """The published package supports no other backend."""
    return "asyncio"


async def manager_of(package: ModuleType, *names: str, **options: Any) -> tuple[Any, list[AsyncMock]]:
    """A manager from this package, with a socket for each name."""
    manager = package.WebSocketConnectionManager(package.WebSocketConfig(**options))
    sockets = [AsyncMock() for _ in names]
    for name, socket in zip(names, sockets, strict=True):
        await manager.connect(name, socket)
    return manager, sockets


def closed(socket: AsyncMock) -> object:
    """Code and reason that a socket was closed with, and ``None`` for one that was not."""
    if not socket.close.await_args:
        return None
    return socket.close.await_args.kwargs["code"], socket.close.await_args.kwargs["reason"]


async def outcome(call: Awaitable[object]) -> object:
    """What a call returns, or the name of what it raises."""
    try:
        return await call
    except Exception as error:
        return type(error).__name__


async def replaced(package: ModuleType) -> object:
    """How the old socket is closed when its client connects again."""
    _, sockets = await manager_of(package, "ann", "ann")
    await until(lambda: closed(sockets[0]))
    return closed(sockets[0])


async def shut_down(package: ModuleType) -> object:
    """How a socket is closed at a shutdown."""
    manager, (socket,) = await manager_of(package, "ann")
    await manager.graceful_shutdown(timeout=1)
    return closed(socket)


async def never_answered(package: ModuleType) -> object:
    """The clients that remain when one of them answers no ping."""
    manager, (socket,) = await manager_of(package, "ann", heartbeat_interval=0.05, heartbeat_timeout=0.05)
    await manager.start()
    await until(lambda: socket.send_json.await_count + socket.send_text.await_count)
    await asyncio.sleep(0.3)  # The interval and the timeout, three times.
    try:
        return manager.get_active_connections()
    finally:
        await manager.graceful_shutdown(timeout=1)


async def idle_memory(package: ModuleType) -> object:
    """Whether a connection without data counts as memory."""
    manager, _ = await manager_of(package, "ann")
    return manager.get_memory_usage()["total_memory"] > 0


async def evicted(package: ModuleType) -> object:
    """How a client is closed that is evicted because of another one's data."""
    manager, (ann, _) = await manager_of(package, "ann", "bob", max_total_memory=3000)
    await manager.set_user_data("ann", "key", "x" * 2000)
    await manager.connect("cat", AsyncMock(), {"note": "y" * 2000})
    await until(lambda: closed(ann))
    return closed(ann)


async def late_goodbye(package: ModuleType) -> object:
    """The clients that remain when a handler whose socket was replaced calls ``disconnect``."""
    manager = package.WebSocketConnectionManager()
    connected, leave = asyncio.Event(), asyncio.Event()

    async def handler() -> None:
        await manager.connect("ann", websocket())
        connected.set()
        await leave.wait()
        await outcome(manager.disconnect("ann"))

    old = asyncio.create_task(handler())
    await connected.wait()
    new = asyncio.create_task(manager.connect("ann", websocket()))
    await new
    leave.set()
    await old
    return manager.get_active_connections()


def websocket() -> Any:
    """An accepted WebSocket of Starlette, whose client sends nothing."""
    from starlette.websockets import WebSocket, WebSocketState

    made = WebSocket({"type": "websocket", "path": "/", "headers": []}, AsyncMock(), AsyncMock())
    made.client_state = made.application_state = WebSocketState.CONNECTED
    return made


async def disabled_tokens(package: ModuleType) -> object:
    """Whether a token can be had where tokens are switched off."""
    manager, _ = await manager_of(package, enable_reconnect=False)
    try:
        return bool(manager.generate_reconnect_token("ann"))
    except package.InvalidTokenError:
        return "InvalidTokenError"


async def dotted_name(package: ModuleType) -> object:
    """What validating a token for a name with a dot, such as a mail address, returns."""
    manager, _ = await manager_of(package)
    return await outcome(manager.validate_reconnect_token(manager.generate_reconnect_token("ann@example.com")))


async def changed_later(package: ModuleType) -> object:
    """Whether a configuration can be changed after the manager was made."""
    config = package.WebSocketConfig(max_connections=1)
    manager = package.WebSocketConnectionManager(config)
    config.max_connections = 2
    await manager.connect("ann", AsyncMock())
    return await outcome(manager.connect("bob", AsyncMock()))


async def nonsense(package: ModuleType) -> object:
    """Whether an unknown type of heartbeat is accepted."""
    try:
        return package.WebSocketConfig(heartbeat_type="nonsense").heartbeat_type
    except ValueError:
        return "ValueError"


async def bytes_message(package: ModuleType) -> object:
    """Whether binary data is sent as text or as bytes."""
    manager, (socket,) = await manager_of(package, "ann")
    await manager.send_to_client("ann", b"\x00")
    return "text" if socket.send_text.await_count else "bytes"


@pytest.mark.parametrize(
    ("case", "before", "now"),
    [
        (replaced, (1000, "reconnected"), (4409, "replaced by a newer connection")),
        (shut_down, (1001, "server shutdown"), (1012, "service restart")),
        (never_answered, [], ["ann"]),
        (idle_memory, True, False),
        (evicted, (1000, "normal closure"), (1013, "evicted: memory limit")),
        (late_goodbye, [], ["ann"]),
        (disabled_tokens, True, "InvalidTokenError"),
        (dotted_name, "InvalidTokenError", "ann@example.com"),
        (changed_later, None, "ConnectionLimitExceededError"),
        (nonsense, "nonsense", "ValueError"),
        (bytes_message, "text", "bytes"),
    ],
)
async def test_the_outcome_differs_from_the_published_package(
    case: Case, before: object, now: object, caplog: pytest.LogCaptureFixture
) -> None:
    """README's list of differences names each of these."""
    caplog.set_level(logging.CRITICAL)
    assert (await case(published), await case(wsstab)) == (before, now)


async def total(package: ModuleType) -> object:
    """The counts of a broadcast that excludes a client."""
    manager, _ = await manager_of(package, "ann", "bob")
    result = await manager.broadcast("hi", exclude_client="bob")
    return result.total, result.succeeded, result.failed


async def strangers(package: ModuleType) -> object:
    """What calls with an unknown or an empty client id return or raise."""
    manager, _ = await manager_of(package)
    calls = [manager.disconnect("x"), manager.set_user_data("x", "k", 1), manager.connect("", AsyncMock())]
    return [await outcome(call) for call in calls] + [await manager.send_to_client("x", "hi")]


async def twice(package: ModuleType) -> object:
    """What a token is worth when it is used twice."""
    manager, _ = await manager_of(package)
    token = manager.generate_reconnect_token("ann")
    return [await outcome(manager.validate_reconnect_token(token)) for _ in range(2)]


async def goodbye(package: ModuleType) -> object:
    """The code with which ``disconnect`` closes."""
    manager, (socket,) = await manager_of(package, "ann")
    await manager.disconnect("ann")
    return closed(socket)[0]  # type: ignore[index]


@pytest.mark.parametrize("case", [total, strangers, twice, goodbye])
async def test_the_outcome_is_the_same_as_with_the_published_package(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """So README does not list it as a difference."""
    caplog.set_level(logging.CRITICAL)
    assert await case(wsstab) == await case(published)
