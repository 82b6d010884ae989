"""How a handler ends: which errors only tell it of the end of its connection, and what the others do to it."""

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
    """A peer that is closing, or that a send has found gone."""
    ending = SimpleNamespace(close=object() if closed else None)
    return SimpleNamespace(sender=SimpleNamespace(gone=gone), closing=ending)


class Group(Exception):
    """An exception group; before Python 3.11 there is none built in."""

    def __init__(self, *exceptions: BaseException) -> None:
        super().__init__()
        self.exceptions = exceptions


def of_starlette() -> RuntimeError:
    """The error that Starlette raises when a handler receives again after the disconnect."""

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(event: Any) -> None:
        """Discard the event."""

    async def twice() -> None:
        websocket = WebSocket({"type": "websocket"}, receive, send)
        websocket.client_state = websocket.client_state.DISCONNECTED
        await websocket.receive()

    with pytest.raises(RuntimeError) as caught:
        anyio.run(twice)
    return caught.value


GONE, LEFT = PeerGoneError("the peer has left"), WebSocketDisconnect(1001)


@pytest.mark.parametrize("error", [GONE, LEFT, Group(GONE, LEFT), Group(GONE, Group(LEFT, of_starlette()))])
def test_errors_that_tell_a_handler_of_the_end_are_quiet(error: BaseException) -> None:
    """So are groups of them."""
    assert is_quiet(error, over())
    assert is_quiet(error, over(closed=False, gone=True))


@pytest.mark.parametrize("error", [GONE, LEFT, Group(GONE, LEFT)])
def test_no_error_is_quiet_while_the_connection_is_open(error: BaseException) -> None:
    """It is then about another connection."""
    assert not is_quiet(error, over(closed=False))


@pytest.mark.parametrize(
    "error",
    [OSError("no such file"), RuntimeError(ENDED), of_starlette(), Group(GONE, OSError("refused")), Group(OSError())],
)
def test_an_error_of_the_application_is_not_quiet(error: BaseException) -> None:
    """Nor is an error that repeats the end, unless it comes in a group with one that first told of it."""
    assert not is_quiet(error, over())


# What the outcome of a handler does to its connection.


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


class Ends:
    """A handler that accepts, unless ``accepts`` is false, and ends when the test lets it.

    Attributes:
        go: set to let it end.
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


class BareError(BaseException):
    """Neither an ``Exception`` nor an error that ends the process."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "closed", "raised"),
    [
        (None, (1000, ""), type(None)),
        (ValueError("on purpose"), (1011, "internal error"), ValueError),
        (BareError(), (1011, "internal error"), Uncaught),
        (ConnectionLimitExceededError(5), (1013, "connection limit reached"), type(None)),
        (WebSocketStabilizerError("on purpose"), (1011, "internal error"), type(None)),
        (PeerGoneError("of another peer"), (1011, "internal error"), PeerGoneError),
    ],
    ids=[
        "returns",
        "raises",
        "raises a BaseException",
        "a limit",
        "an error of the stabilizer",
        "another peer's departure",
    ],
)
async def test_the_outcome_of_a_handler_decides_the_close_of_its_connection(
    error: BaseException | None, closed: tuple[int, str], raised: type
) -> None:
    """The server gets the exception only if it is an error, not if it is an answer to the peer."""
    ends = Ends(error)
    async with on_stage(ends, errors=True) as stage:
        peer = await stage.open()
        ends.go.set()
        await peer.over()
        assert peer.closed == closed
        assert type(peer.error) is raised
        assert peer.error is error or not isinstance(peer.error, Uncaught) or peer.error.__cause__ is error


@pytest.mark.anyio
async def test_a_stabilizer_error_without_a_close_of_its_own_is_logged_with_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a mistake. An error that answers the peer, such as a limit, is logged in one line."""
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
async def test_before_accept_a_stabilizer_error_is_a_refusal() -> None:
    """Its HTTP status corresponds to its close code."""
    ends = Ends(ConnectionLimitExceededError(5), accepts=False)
    ends.go.set()
    async with on_stage(ends) as stage:
        peer = stage.call(Peer())
        await peer.over()
        assert [event.get("status") for event in peer.sent] == [503, None]


@pytest.mark.anyio
@pytest.mark.parametrize("answers", [True, False])
async def test_before_accept_any_other_error_is_answered_once(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers; if it does not do so by itself, the stabilizer does."""
    monkeypatch.setattr(AsgiWire, "traits", replace(ASGI, error_response=answers))
    ends = Ends(ValueError("on purpose"), accepts=False)
    ends.go.set()
    async with on_stage(ends, errors=True) as stage:
        peer = stage.call(Peer())
        await peer.over()
        assert [event.get("status") for event in peer.sent] == ([] if answers else [500, None])
        assert isinstance(peer.error, ValueError)


@pytest.mark.anyio
async def test_before_accept_a_handler_that_returns_sends_no_answer() -> None:
    """How to answer the handshake is left to the server."""
    ends = Ends(accepts=False)
    ends.go.set()
    async with on_stage(ends) as stage:
        peer = stage.call(Peer())
        await peer.over()
        assert (peer.sent, peer.error) == ([], None)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [WebSocketDisconnect(1001), PeerGoneError("the peer has left"), None])
async def test_a_handler_that_ends_after_its_peer_has_left_ends_quietly(error: Exception | None) -> None:
    """It may raise `WebSocketDisconnect` or `PeerGoneError`, or just return."""
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
async def test_a_handler_s_own_error_survives_a_cancellation_during_the_close(error: Exception | None) -> None:
    """Errors that are not the application's give way to the cancellation."""
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
async def test_a_cancellation_by_the_server_closes_the_connection_and_propagates() -> None:
    """The server sees its own cancellation."""
    ends = Ends()
    async with on_stage(ends) as stage:
        peer = await stage.open()
        peer.call.cancel()
        await peer.over()
        assert peer.call.cancelled_caught
        assert stage.manager.statistics().closed == {1001: 1}


def raised_by(event: dict[str, Any]) -> RuntimeError:
    """The error that ``send`` raises for a mistake of the application."""
    with pytest.raises(RuntimeError) as caught:
        anyio.run(Handler(MagicMock()).send, event)
    return caught.value


@pytest.mark.parametrize("event", [{"type": "websocket.send"}, {"type": "nonsense"}])
def test_the_error_of_an_illegal_event_is_not_quiet_beside_a_disconnect(event: dict[str, Any]) -> None:
    """It comes from a mistake of the application, which must not be hidden by the disconnect in the same group."""
    assert not is_quiet(Group(LEFT, raised_by(event)), over())


def test_the_error_of_a_receive_after_the_end_is_quiet_beside_a_disconnect() -> None:
    """A reader task and a writer task each learn of the end in their own way."""
    assert is_quiet(Group(LEFT, ReceivedAfterEndError(ENDED)), over())
