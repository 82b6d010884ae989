"""Pattern 2, direct messaging."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest

from tests.published.doubles import fleet
from wsstab import ConnectionNotFoundError

pytestmark = pytest.mark.anyio


async def test_a_direct_message_reaches_one_client() -> None:
    """The call returns true once the message is handed over, and no other client gets it."""
    manager, (ann, bob) = await fleet("ann", "bob")
    success = await manager.send_to_client("ann", "Direct message")
    assert success
    ann.send_text.assert_awaited_once_with("Direct message")
    bob.send_text.assert_not_awaited()


async def test_a_direct_message_may_be_a_dict() -> None:
    """It goes through ``send_json``."""
    manager, (ann,) = await fleet("ann")
    assert await manager.send_to_client("ann", {"type": "note"})
    ann.send_json.assert_awaited_once_with({"type": "note"})


async def test_sending_to_a_client_that_has_left_returns_false() -> None:
    """It raises no error: the caller decides what it means."""
    manager, (ann,) = await fleet("ann")
    await manager.disconnect("ann")
    assert not await manager.send_to_client("ann", "Direct message")
    ann.close.assert_awaited_once()


async def test_sending_to_a_socket_that_raises_returns_false() -> None:
    """A socket that raises counts as gone."""
    manager, (ann,) = await fleet("ann")
    ann.send_text.side_effect = RuntimeError("gone")
    assert not await manager.send_to_client("ann", "Direct message")


async def test_disconnecting_an_unknown_client_raises() -> None:
    """As published: the error names the client."""
    manager, _ = await fleet()
    with pytest.raises(ConnectionNotFoundError, match="nobody"):
        await manager.disconnect("nobody")


async def test_a_client_needs_a_name() -> None:
    """As published: an empty name is refused."""
    manager, _ = await fleet()
    with pytest.raises(ConnectionNotFoundError):
        await manager.connect("", AsyncMock())
    assert manager.get_connection_count() == 0
