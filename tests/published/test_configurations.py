"""The four example configurations, the reference of all options, and what they promise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from unittest.mock import AsyncMock

import anyio
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient

from tests.published.doubles import CountingSocket, Gauge, fleet
from wsstab import (
    ConnectionLimitExceededError,
    ConnectionTimeoutError,
    MemoryEvictionPolicy,
    MemoryLimitExceededError,
    WebSocketConfig,
    WebSocketConnectionManager,
    WebSocketStabilizer,
)

LOW_LATENCY = WebSocketConfig(
    heartbeat_interval=5.0,  # More frequent heartbeats
    heartbeat_timeout=10.0,  # Detect dead connections quickly
    max_connections=10000,  # Expect many connections
)
SLOW_PROXY = WebSocketConfig(
    heartbeat_interval=45.0,  # Slower heartbeat (adapt to proxy timeout)
    heartbeat_timeout=90.0,
    compression="none",  # Reduce overhead
)
SERVERLESS = WebSocketConfig(
    heartbeat_interval=20.0,  # Serverless platforms have stricter timeouts
    max_connections=500,  # Limited resource per instance
)
HIGH_LOAD = WebSocketConfig(
    heartbeat_interval=30.0,
    max_connections=50000,
    num_shards=32,  # More shards for reduced lock contention
    max_concurrent_cleanup=50,  # Prevent cleanup storms
    max_concurrent_broadcast=500,  # Control broadcast load
    max_memory_per_connection=1024 * 1024,  # 1MB per connection
    max_total_memory=1024 * 1024 * 1024,  # 1GB total
    memory_eviction_policy=MemoryEvictionPolicy.LRU,  # Evict least recently used
)
CONFIGURATIONS = {
    "low latency": LOW_LATENCY,
    "slow proxy": SLOW_PROXY,
    "serverless": SERVERLESS,
    "high load": HIGH_LOAD,
}
QUICKLY = 0.01
"""What the published seconds are multiplied by: the behaviour is the same and the test is short."""

every_configuration = pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


def hurried(config: WebSocketConfig) -> WebSocketConfig:
    """The same configuration, a hundred times as fast."""
    return replace(
        config,
        heartbeat_interval=config.heartbeat_interval * QUICKLY,
        heartbeat_timeout=config.heartbeat_timeout * QUICKLY,
    )


def chat(config: WebSocketConfig) -> FastAPI:
    """A chat behind the middleware with this configuration."""
    app = FastAPI()
    app.add_middleware(WebSocketStabilizer, config=config)

    @app.websocket("/ws/{client_id}")
    async def websocket_endpoint(websocket: WebSocket, client_id: str) -> None:
        manager = websocket.state.manager
        await websocket.accept()
        await manager.connect(client_id, websocket)
        async for text in websocket.iter_text():
            await manager.broadcast({"user": client_id, "message": text})

    return app


def test_all_published_options_have_their_published_defaults() -> None:
    """The configuration reference, word by word, is the default configuration."""
    config = WebSocketConfig(
        # Heartbeat settings
        heartbeat_interval=30.0,  # Seconds between pings
        heartbeat_timeout=60.0,  # Seconds to wait for pong response
        heartbeat_type="ping",  # Type of heartbeat ("ping" or "custom")
        # Connection limits
        max_connections=None,  # Max concurrent connections (None = unlimited)
        max_message_size=1048576,  # Max message size in bytes (1MB default)
        # Reconnection
        reconnect_token_ttl=timedelta(hours=1),  # Token lifetime
        enable_reconnect=True,  # Enable token support
        # Compression
        compression="deflate",  # "deflate" or "none"
        # Logging
        log_level="INFO",  # DEBUG, INFO, WARNING, ERROR, CRITICAL
        enable_metrics=False,  # Collect metrics (experimental)
        # Sharding (reduces lock contention under high load)
        num_shards=16,  # Number of connection pool shards
        # Concurrency control (prevents cleanup/broadcast storms)
        max_concurrent_cleanup=100,  # Max concurrent connection closures
        max_concurrent_broadcast=1000,  # Max concurrent broadcast sends
        # Memory management
        max_memory_per_connection=None,  # Max bytes per connection (None = unlimited)
        max_total_memory=None,  # Max total bytes (None = unlimited)
        memory_eviction_policy="lru",  # "lru", "fifo", or "oldest"
        memory_check_interval=60.0,  # Seconds between memory checks
    )
    assert config == WebSocketConfig()


@every_configuration
def test_a_chat_runs_with_each_configuration(config: WebSocketConfig) -> None:
    """Two clients talk, with the lifespan and without."""
    app = chat(config)
    with TestClient(app) as with_lifespan:
        for client in (with_lifespan, TestClient(app)):
            with client.websocket_connect("/ws/ann") as ann:
                ann.send_text("one")
                assert ann.receive_json() == {"user": "ann", "message": "one"}
                with client.websocket_connect("/ws/bob") as bob:
                    bob.send_text("two")
                    assert ann.receive_json() == {"user": "bob", "message": "two"}
                    assert bob.receive_json() == {"user": "bob", "message": "two"}


@pytest.mark.anyio
@every_configuration
async def test_a_double_is_pinged_with_each_configuration(config: WebSocketConfig) -> None:
    """After the interval it gets the published JSON ping; one that answers stays."""
    manager, (ann,) = await fleet("ann", config=hurried(config))
    pinged = anyio.Event()

    async def answer(message: dict[str, object]) -> None:
        assert message["type"] == "ping"
        assert isinstance(message["timestamp"], (int, float, str))
        await manager.handle_pong("ann")
        pinged.set()

    ann.send_json.side_effect = answer
    await manager.start()
    with anyio.fail_after(10):
        await pinged.wait()
    assert manager.get_active_connections() == ["ann"]
    await manager.graceful_shutdown()


@pytest.mark.anyio
async def test_the_low_latency_configuration_notices_a_dead_client_quickly() -> None:
    """A double that answered once and then falls silent is gone after interval and timeout."""
    manager, _ = await fleet("ann", config=hurried(LOW_LATENCY))
    connection = manager.get_connection("ann")
    assert connection is not None
    await manager.start()
    await manager.handle_pong("ann")
    with anyio.fail_after(10):
        event = await connection.closed
    assert isinstance(event.error, ConnectionTimeoutError)
    assert manager.get_connection_count() == 0
    await manager.graceful_shutdown()


@pytest.mark.anyio
async def test_the_serverless_configuration_refuses_the_501st() -> None:
    """The limit is exact, and a client of the 500 may come back."""
    manager, _ = await fleet(*(f"client-{number}" for number in range(500)), config=SERVERLESS)
    with pytest.raises(ConnectionLimitExceededError):
        await manager.connect("one too many", AsyncMock())
    await manager.connect("client-7", AsyncMock())
    assert manager.get_connection_count() == 500
    await manager.graceful_shutdown()


@pytest.mark.anyio
async def test_the_high_load_configuration_bounds_what_happens_at_once() -> None:
    """10,000 connections: at most 500 sends and 50 closes are under way at any moment."""
    manager = WebSocketConnectionManager(HIGH_LOAD)
    sends, closes = Gauge(), Gauge()
    for number in range(10_000):
        await manager.connect(f"client-{number}", CountingSocket(sends, closes))
    result = await manager.broadcast("to all")
    assert (result.total, result.succeeded) == (10_000, 10_000)
    assert sends.passed == 10_000
    assert 1 < sends.most <= 500
    report = await manager.graceful_shutdown()
    assert (report.closed_count, report.failed_count) == (10_000, 0)
    assert closes.passed == 10_000
    assert 1 < closes.most <= 50
    assert manager.get_connection_count() == 0


@pytest.mark.anyio
async def test_the_high_load_configuration_limits_the_memory_of_a_connection() -> None:
    """More than 1 MiB of user data is refused."""
    manager, _ = await fleet("ann", config=HIGH_LOAD)
    with pytest.raises(MemoryLimitExceededError):
        await manager.set_user_data("ann", "film", bytes(1024 * 1024))
    await manager.set_user_data("ann", "picture", bytes(1000 * 1024))


@pytest.mark.anyio
async def test_the_high_load_configuration_evicts_the_least_recently_used() -> None:
    """Over the total limit, the client that was silent for longest is closed with 1013."""
    config = replace(HIGH_LOAD, max_total_memory=25_000)
    manager, (ann, bob, cid) = await fleet("ann", "bob", "cid", config=config)
    await manager.start()
    for name in ("ann", "bob"):
        await manager.set_user_data(name, "data", bytes(10_000))
    await anyio.sleep(0.3)  # The clock behind "recently" moves every tenth of a second.
    await manager.send_to_client("ann", "a sign of life")
    loser = manager.get_connection("bob")
    assert loser is not None
    await manager.set_user_data("cid", "data", bytes(10_000))
    with anyio.fail_after(10):
        event = await loser.closed
    assert event.code == 1013
    assert sorted(manager.get_active_connections()) == ["ann", "cid"]
    bob.close.assert_awaited_once()
    ann.close.assert_not_awaited()
    cid.close.assert_not_awaited()
    await manager.graceful_shutdown()
