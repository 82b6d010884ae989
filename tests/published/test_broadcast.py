"""Pattern 1, simple broadcast, and the results it reports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.published.doubles import fleet
from wsstab import BroadcastFailedError, BroadcastResult

pytestmark = pytest.mark.anyio


async def test_a_broadcast_reaches_all_clients() -> None:
    """Every double is sent the message as it was given."""
    manager, sockets = await fleet("ann", "bob", "cid")
    result = await manager.broadcast("System message")
    assert result == BroadcastResult(total=3, succeeded=3, failed=0, errors=[])
    for socket in sockets:
        socket.send_text.assert_awaited_once_with("System message")


async def test_a_broadcast_reaches_all_except_the_sender() -> None:
    """``total`` counts the audience before the exclusion."""
    manager, (ann, bob, cid) = await fleet("ann", "bob", "cid")
    text = json.dumps({"message": "chat"})
    result = await manager.broadcast(text, exclude_client="ann")
    assert (result.total, result.succeeded, result.failed) == (3, 2, 0)
    ann.send_text.assert_not_awaited()
    bob.send_text.assert_awaited_once_with(text)
    cid.send_text.assert_awaited_once_with(text)


@pytest.mark.parametrize(
    ("message", "coroutine"),
    [("text", "send_text"), (b"bytes", "send_bytes"), ({"a": 1}, "send_json"), ([1, 2], "send_json")],
)
async def test_a_double_is_sent_each_message_unencoded(message: Any, coroutine: str) -> None:
    """The type of the message chooses Starlette's coroutine."""
    manager, (ann,) = await fleet("ann")
    await manager.broadcast(message)
    getattr(ann, coroutine).assert_awaited_once_with(message)


async def test_a_delivery_that_fails_is_reported_and_the_others_arrive() -> None:
    """``errors`` names the client and the error."""
    manager, (ann, bob) = await fleet("ann", "bob")
    ann.send_text.side_effect = RuntimeError("gone")
    result = await manager.broadcast("hello")
    assert (result.total, result.succeeded, result.failed) == (2, 1, 1)
    [(who, what)] = result.errors
    assert who == "ann"
    assert "gone" in what
    bob.send_text.assert_awaited_once_with("hello")


async def test_a_broadcast_that_fails_for_every_client_raises() -> None:
    """The error holds the result."""
    manager, (ann,) = await fleet("ann")
    ann.send_text.side_effect = RuntimeError("gone")
    with pytest.raises(BroadcastFailedError) as caught:
        await manager.broadcast("hello")
    assert (caught.value.result.total, caught.value.result.failed) == (1, 1)


async def test_a_broadcast_to_nobody_is_no_failure() -> None:
    """A result that counts zero is returned, and no error is raised."""
    manager, _ = await fleet()
    assert await manager.broadcast("hello") == BroadcastResult(total=0, succeeded=0, failed=0, errors=[])
