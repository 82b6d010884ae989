"""Whether an error that ended a handler is one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsstab.connection.handler import ENDED
from wsstab.connection.outcome import is_quiet
from wsstab.errors import PeerGoneError


def over(closed: bool = True, gone: bool = False) -> Any:
    """A connection that is closing, or whose peer a send found gone."""
    ending = SimpleNamespace(close=object() if closed else None)
    return SimpleNamespace(sender=SimpleNamespace(gone=gone), closing=ending)


class Group(Exception):
    """An exception group; Python has one of its own from 3.11 on."""

    def __init__(self, *exceptions: BaseException) -> None:
        super().__init__()
        self.exceptions = exceptions


def of_starlette() -> RuntimeError:
    """What Starlette raises for a second receive after the disconnect."""

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(event: Any) -> None:
        """Nowhere."""

    async def twice() -> None:
        websocket = WebSocket({"type": "websocket"}, receive, send)
        websocket.client_state = websocket.client_state.DISCONNECTED
        await websocket.receive()

    with pytest.raises(RuntimeError) as caught:
        anyio.run(twice)
    return caught.value


GONE, LEFT = PeerGoneError("the peer has left"), WebSocketDisconnect(1001)


@pytest.mark.parametrize("error", [GONE, LEFT, Group(GONE, LEFT), Group(GONE, Group(LEFT, of_starlette()))])
def test_the_ways_in_which_a_handler_learns_of_an_end_are_quiet(error: BaseException) -> None:
    """Alone and together."""
    assert is_quiet(error, over())
    assert is_quiet(error, over(closed=False, gone=True))


@pytest.mark.parametrize("error", [GONE, LEFT, Group(GONE, LEFT)])
def test_nothing_is_quiet_while_the_connection_is_open(error: BaseException) -> None:
    """It is of another connection then."""
    assert not is_quiet(error, over(closed=False))


@pytest.mark.parametrize(
    "error",
    [OSError("no such file"), RuntimeError(ENDED), of_starlette(), Group(GONE, OSError("refused")), Group(OSError())],
)
def test_an_error_of_the_application_is_not_quiet(error: BaseException) -> None:
    """After the end of its connection too; what only repeats that end is none where nothing told of it."""
    assert not is_quiet(error, over())
