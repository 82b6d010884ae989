"""Whether an error that ended a handler is one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import anyio
import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.support.stage import Peer, on_stage, settle, until
from wsstab import ConnectionLimitExceededError, WebSocketStabilizerError
from wsstab.connection.handler import ENDED, Handler, ReceivedAfterEndError
from wsstab.connection.outcome import is_quiet
from wsstab.errors import PeerGoneError
from wsstab.loop.usercode import Uncaught
from wsstab.wires.asgi import AsgiWire
from wsstab.wires.traits import ASGI


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


# What the outcome of a handler does to its connection.


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


class Ends:
    """A handler that accepts, unless it is not to, and comes to an end when it is let.

    Attributes:
        go: set when it may end.
    """

    def __init__(self, error: BaseException | None = None, accepts: bool = True) -> None:
        self._error = error
        self._accepts = accepts
        self.go = anyio.Event()

    async def __call__(self, websocket: WebSocket) -> None:
        if self._accepts:
            await websocket.accept()
        await self.go.wait()
        if self._error is not None:
            raise self._error


class Odd(BaseException):
    """Neither an ``Exception`` nor meant for the process."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "closed", "raised"),
    [
        (None, (1000, ""), type(None)),
        (ValueError("on purpose"), (1011, "internal error"), ValueError),
        (Odd(), (1011, "internal error"), Uncaught),
        (ConnectionLimitExceededError(5), (1013, "connection limit reached"), type(None)),
        (WebSocketStabilizerError("on purpose"), (1011, "internal error"), type(None)),
        (PeerGoneError("of another peer"), (1011, "internal error"), PeerGoneError),
    ],
    ids=["returns", "raises", "raises what is no exception", "a limit", "an error of ours", "another's departure"],
)
async def test_what_a_handler_comes_to_closes_its_connection(
    error: BaseException | None, closed: tuple[int, str], raised: type
) -> None:
    """The server hears of an error, but not of an answer to the peer."""
    ends = Ends(error)
    async with on_stage(ends, errors=True) as stage:
        peer = await stage.open()
        ends.go.set()
        await peer.over()
        assert peer.closed == closed
        assert type(peer.error) is raised
        assert peer.error is error or not isinstance(peer.error, Uncaught) or peer.error.__cause__ is error


@pytest.mark.anyio
async def test_an_error_of_ours_that_is_a_mistake_is_logged_with_where_it_was_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that is an answer to the peer is a line."""
    for error in (WebSocketStabilizerError("on purpose"), ConnectionLimitExceededError(5)):
        ends = Ends(error)
        async with on_stage(ends) as stage:
            ends.go.set()
            await (await stage.open()).over()
    mistake, answer = [record for record in caplog.records if "an error escaped the handler" in record.getMessage()]
    assert mistake.exc_info is not None
    assert mistake.exc_info[0] is WebSocketStabilizerError
    assert not answer.exc_info


@pytest.mark.anyio
async def test_before_accept_an_error_of_ours_is_a_refusal() -> None:
    """With the status that says the same."""
    ends = Ends(ConnectionLimitExceededError(5), accepts=False)
    ends.go.set()
    async with on_stage(ends) as stage:
        peer = stage.call(Peer())
        await peer.over()
        assert [event.get("status") for event in peer.sent] == [503, None]


@pytest.mark.anyio
@pytest.mark.parametrize("answers", [True, False])
async def test_before_accept_any_other_error_is_answered_once(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server where it does, and by us where it does not."""
    monkeypatch.setattr(AsgiWire, "traits", replace(ASGI, error_response=answers))
    ends = Ends(ValueError("on purpose"), accepts=False)
    ends.go.set()
    async with on_stage(ends, errors=True) as stage:
        peer = stage.call(Peer())
        await peer.over()
        assert [event.get("status") for event in peer.sent] == ([] if answers else [500, None])
        assert isinstance(peer.error, ValueError)


@pytest.mark.anyio
async def test_before_accept_a_handler_that_returns_says_nothing() -> None:
    """What a server makes of that is the server's."""
    ends = Ends(accepts=False)
    ends.go.set()
    async with on_stage(ends) as stage:
        peer = stage.call(Peer())
        await peer.over()
        assert (peer.sent, peer.error) == ([], None)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [WebSocketDisconnect(1001), PeerGoneError("the peer has left"), None])
async def test_who_ends_because_its_peer_has_left_ends_quietly(error: Exception | None) -> None:
    """However it says so."""
    ends = Ends(error)
    async with on_stage(ends) as stage:
        peer = await stage.open()
        peer.leaves(4001)
        await until(lambda: peer.inner.closing.event)
        ends.go.set()
        await peer.over()
        assert (peer.closed, peer.error) == (None, None)
        assert stage.manager.statistics().closed == {4001: 1}


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ValueError("on purpose"), ConnectionLimitExceededError(5), None])
async def test_who_is_cancelled_while_its_connection_closes_still_raises_its_own_error(
    error: Exception | None,
) -> None:
    """As without us; what is no error of the application gives way to the cancellation."""
    ends = Ends(error)
    async with on_stage(ends, errors=True) as stage:
        peer = await stage.open()
        peer.mute = True
        ends.go.set()
        await until(lambda: peer.inner.closing.close)
        await settle()
        assert not peer.done.is_set()
        peer.call.cancel()
        await peer.over()
        assert peer.error is (error if isinstance(error, ValueError) else None)
        assert stage.manager.get_connection_count() == 0


@pytest.mark.anyio
async def test_a_call_that_the_server_cancels_ends_as_it_says() -> None:
    """Its connection is over, and the cancellation goes on to the server."""
    ends = Ends()
    async with on_stage(ends) as stage:
        peer = await stage.open()
        peer.call.cancel()
        await peer.over()
        assert peer.call.cancelled_caught
        assert stage.manager.statistics().closed == {1001: 1}


def raised_by(event: dict[str, Any]) -> RuntimeError:
    """A mistake of the application, as its own ``send`` raises it."""
    with pytest.raises(RuntimeError) as caught:
        anyio.run(Handler(MagicMock()).send, event)
    return caught.value


@pytest.mark.parametrize("event", [{"type": "websocket.send"}, {"type": "nonsense"}])
def test_a_mistake_is_no_echo_of_the_end(event: dict[str, Any]) -> None:
    """Though it is raised beside the disconnect."""
    assert not is_quiet(Group(LEFT, raised_by(event)), over())


def test_to_receive_again_beside_the_disconnect_only_repeats_it() -> None:
    """A reader and a writer each learn of the end."""
    assert is_quiet(Group(LEFT, ReceivedAfterEndError(ENDED)), over())
