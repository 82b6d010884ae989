"""Connection: a WebSocket of a client that outlives its TCP connections, on asyncio and the ``websockets`` library.

    async with connect("wss://example.com/chat") as websocket:
        await websocket.send("hello")
        async for message in websocket:
            print(message)

Carries out what `wsstab.client.machine.ClientMachine` asks for; it decides nothing by itself. Each carrier has one task
that reads from it and one that writes to it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from ..core.protocol import Outcome
from . import actions
from .actions import Action, Message
from .heartbeat import Timeouts
from .machine import ClientMachine
from .states import ClientState

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection as WebSocket

__all__ = ["ClientClosedError", "ClientConnection", "SessionView", "connect"]

logger = logging.getLogger("wsstab.client")

Url: TypeAlias = str | Callable[[], str | Awaitable[str]]
Headers: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]

MOST_UNREAD = 1000
MOST_UNREAD_BYTES = 4 * 1024 * 1024
"""What waits for the application; beyond it nothing is read, so that TCP slows the server down."""


class ClientClosedError(Exception):
    """The connection is closed for good.

    Attributes:
        code: the close code.
        reason: its reason.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"closed with {self.code} {self.reason}".rstrip()


@dataclass(frozen=True)
class SessionView:
    """What a client may know of its session.

    Args:
        outcome: how the newest carrier began; ``None`` before the first hello, and on an ordinary WebSocket.
        latency: seconds from the last ping to its answer; ``None`` before the first answer.
    """

    outcome: Outcome | None
    latency: float | None


class ClientConnection:
    """One client; made by `connect`.

    Iterating over it returns the messages of the server, and ends with the connection.
    """

    def __init__(
        self,
        machine: ClientMachine,
        url: Url,
        headers: Headers,
        on_event: Callable[[Action], object] | None,
        timeouts: Timeouts,
        max_size: int | None,
    ) -> None:
        self._machine = machine
        self._timeouts = timeouts
        self._max_size = max_size
        self._url = url
        self._headers = headers
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._carriers: dict[int, Carrier] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._inbox: deque[Message] = deque()
        self._unread = 0
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._room = asyncio.Event()
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self._closing = False
        self._end: actions.Closed | None = None
        self._outcome: Outcome | None = None
        self._protocol: str | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection [{self.state.name.lower()} | {len(self._inbox)} unread]>"

    @property
    def state(self) -> ClientState:
        """Whether there is a session, and whether it has a carrier."""
        return self._machine.state

    @property
    def session(self) -> SessionView:
        """What is known of the session; none of its secrets."""
        return SessionView(self._outcome, self._machine.latency)

    @property
    def protocol(self) -> str | None:
        """The subprotocol of the application that the server selected; ``None`` for none."""
        return self._protocol

    async def recv(self) -> Message:
        """The next message of the server.

        Raises:
            ClientClosedError: the connection is closed, and there are no more.
        """
        while not self._inbox:
            if self._end is not None:
                raise ClientClosedError(self._end.code, self._end.reason)
            self._arrived.clear()
            await self._arrived.wait()
        message = self._inbox.popleft()
        self._unread -= len(message)
        self._taken.set()
        return message

    async def send(self, message: Message) -> None:
        """Send a message. Without a carrier it is kept; while too much is unacknowledged, this waits.

        Args:
            message: text or bytes.

        Raises:
            ClientClosedError: the connection is closed, or about to be.
            ValueError: text that UTF-8 cannot encode, or more bytes than the server takes.
        """
        while True:
            self._room.clear()
            try:
                todo = self._machine.send(message, self._loop.time())
            except RuntimeError:
                end = self._end or actions.Closed(1000, "")
                raise ClientClosedError(end.code, end.reason) from None
            self._do(todo)
            if not any(isinstance(action, actions.Full) for action in todo):
                return
            await self._room.wait()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close behind everything that was sent, and wait until the server has answered.

        Args:
            code: 1000, or 3000 to 4999.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: another code, or a longer reason.
        """
        self._do(self._machine.close(self._loop.time(), code, reason))
        # The answer comes behind what nobody may read any more.
        self._closing = True
        self._taken.set()
        await self._closed.wait()

    def reconnect(self) -> None:
        """Begin another attempt now."""
        self._do(self._machine.connect(self._loop.time()))

    def wake(self) -> None:
        """The network may have changed, or this process may have slept: look whether the server is still there."""
        self._do(self._machine.wake(self._loop.time()))

    def __aiter__(self) -> AsyncIterator[Message]:
        return self._messages()

    async def _messages(self) -> AsyncIterator[Message]:
        while True:
            try:
                message = await self.recv()
            except ClientClosedError:
                return
            yield message

    # For `connect`.

    async def _begin(self) -> None:
        self._do(self._machine.connect(self._loop.time()))
        await self._opened.wait()
        if self._end is not None:
            raise ClientClosedError(self._end.code, self._end.reason)

    async def _finish(self) -> None:
        """Leave no task and no socket behind."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What the machine asks for.

    def _do(self, todo: list[Action]) -> None:
        for action in todo:
            self._do_one(action)
        self._schedule()

    def _do_one(self, action: Action) -> None:
        if isinstance(action, actions.Connect):
            carrier = self._carriers[action.attempt] = Carrier(self, action)
            carrier.task = self._spawn(carrier.run())
        elif isinstance(action, (actions.Send, actions.CloseCarrier)):
            carrier_of = self._carriers.get(action.attempt)
            if carrier_of is not None:
                carrier_of.put(action)
        elif isinstance(action, actions.Deliver):
            self._inbox.append(action.message)
            self._unread += len(action.message)
            self._arrived.set()
        else:
            self._tell(action)

    def _tell(self, event: Action) -> None:
        if isinstance(event, actions.Opened):
            self._outcome, self._protocol = Outcome.FRESH, event.protocol
        elif isinstance(event, actions.Resumed):
            self._outcome = event.outcome
        elif isinstance(event, actions.Plain):
            self._outcome, self._protocol = None, event.protocol
        elif isinstance(event, actions.Closed):
            self._end = event
            self._closed.set()
            self._arrived.set()
        if isinstance(event, (actions.Opened, actions.Plain, actions.Closed)):
            self._opened.set()
        if isinstance(event, (actions.Room, actions.Closed)):
            self._room.set()
        if self._on_event is not None and not isinstance(event, (actions.Full, actions.Room)):
            try:
                self._on_event(event)
            except Exception:
                logger.exception("! a callback failed")

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._machine.deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._do(self._machine.tick(self._loop.time()))

    # What carriers do.

    def _spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _target(self) -> tuple[str, Mapping[str, str]]:
        """Where to connect; asked for each attempt, because a token may have to be new."""
        return await value_of(self._url), await value_of(self._headers)

    def _carrier_opened(self, attempt: int, subprotocol: str | None) -> None:
        self._do(self._machine.opened(attempt, subprotocol, self._loop.time()))

    async def _carrier_heard(self, attempt: int, message: Message) -> None:
        self._do(self._machine.heard(attempt, message, self._loop.time()))
        while not self._closing and (len(self._inbox) >= MOST_UNREAD or self._unread >= MOST_UNREAD_BYTES):
            self._taken.clear()
            await self._taken.wait()

    def _carrier_ended(self, attempt: int, code: int | None, reason: str, clean: bool) -> None:
        self._do(self._machine.ended(attempt, code, reason, clean, self._loop.time()))


class Carrier:
    """One TCP connection of a client.

    Args:
        client: the client.
        action: what to offer, and the number of the attempt.
    """

    def __init__(self, client: ClientConnection, action: actions.Connect) -> None:
        self._client = client
        self._attempt = action.attempt
        self._subprotocols = action.subprotocols
        self._leaving: asyncio.Queue[actions.Send | actions.CloseCarrier] = asyncio.Queue()
        self._websocket: WebSocket | None = None
        self.task: asyncio.Task[None] | None = None

    def put(self, action: actions.Send | actions.CloseCarrier) -> None:
        """Send a message, or close, behind all that was put before."""
        if self._websocket is None and isinstance(action, actions.CloseCarrier) and self.task is not None:
            # The handshake is under way, and nobody waits for it any more.
            self.task.cancel()
        else:
            self._leaving.put_nowait(action)

    async def run(self) -> None:
        """Connect, then read to the end."""
        try:
            await self._run()
        finally:
            # Also if it was cancelled in its handshake: attempts come without end.
            self._client._carriers.pop(self._attempt, None)

    async def _run(self) -> None:
        websocket = await self._open()
        if websocket is None:
            self._client._carrier_ended(self._attempt, None, "", False)
            return
        self._websocket = websocket
        writer = self._client._spawn(self._write(websocket))
        try:
            self._client._carrier_opened(self._attempt, websocket.subprotocol)
            async for message in websocket:
                await self._client._carrier_heard(self._attempt, message)
        except Exception as error:
            # The reader of the library raises for every end but a normal one; what it was is asked below.
            logger.debug("- carrier %d ended: %r", self._attempt, error)
        finally:
            if not self._leaving.empty():
                # A close may be on its way; the library waits for it for a bounded time.
                await asyncio.wait([writer], timeout=1.0)
            writer.cancel()
            websocket.transport.abort()
        received = websocket.protocol.close_rcvd
        clean = received is not None and websocket.protocol.close_sent is not None
        code = None if received is None or received.code == 1005 else int(received.code)
        self._client._carrier_ended(self._attempt, code, "" if received is None else received.reason, clean)

    async def _open(self) -> WebSocket | None:
        """The WebSocket; ``None`` if the handshake failed."""
        from websockets.asyncio import client
        from websockets.exceptions import WebSocketException
        from websockets.typing import Subprotocol

        try:
            url, headers = await self._client._target()
            return await client.connect(
                url,
                subprotocols=[Subprotocol(each) for each in self._subprotocols] or None,
                additional_headers=dict(headers),
                # The machine has deadlines and pings of its own.
                open_timeout=None,
                ping_interval=None,
                max_size=self._client._max_size,
                close_timeout=self._client._timeouts.close,
            )
        except (OSError, WebSocketException, EOFError) as error:
            logger.debug("- attempt %d failed: %r", self._attempt, error)
        except Exception:
            # A function of the application that gives the address or the headers.
            logger.exception("! attempt %d failed", self._attempt)
        return None

    async def _write(self, websocket: WebSocket) -> None:
        while True:
            action = await self._leaving.get()
            if isinstance(action, actions.CloseCarrier):
                # Without a code, the frame is empty (RFC 6455 section 5.5.1).
                await websocket.close(action.code, action.reason)  # type: ignore[arg-type]
                return
            await websocket.send(action.message)


class connect:
    """Connect to a server, and stay connected.

    An asynchronous context manager that gives a `ClientConnection`. It waits for the first carrier, for as long as the
    server takes; at its end it closes with 1000, and waits for the answer for as long as a close may take.

    Args:
        url: where to connect, or a function that returns it, async or not, asked before each attempt.
        subprotocols: subprotocols of the application, in the order of its preference.
        headers: headers for the handshake, or a function that returns them, async or not, asked before each attempt.
        on_event: called with each of `wsstab.client.actions.Opened`, ``Resumed``, ``Detached``, ``Gap``, ``Lost``,
            ``Plain`` and ``Closed``; an error in it is logged.
        max_messages: messages that are kept at most until the server has acknowledged them; 1,000.
        max_bytes: their payload in bytes; 1 MiB.
        min_delay: seconds below which the delay before the next attempt is drawn at first; 0.5.
        max_delay: seconds below which it is drawn after many failures; 20.
        timeouts: how long the server may take; see `Timeouts`.
        max_size: bytes of the largest message of the server, as in ``websockets``; 1 MiB. ``None`` for no limit.

    Raises:
        ImportError: the ``websockets`` library is missing.
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        url: Url,
        *,
        subprotocols: Sequence[str] = (),
        headers: Headers | None = None,
        on_event: Callable[[Action], object] | None = None,
        max_messages: int = 1000,
        max_bytes: int = 1024 * 1024,
        min_delay: float = 0.5,
        max_delay: float = 20.0,
        timeouts: Timeouts | None = None,
        max_size: int | None = 1024 * 1024,
    ) -> None:
        if find_spec("websockets") is None:
            raise ImportError("wsstab.client needs the websockets library: pip install websockets")
        self._url = url
        self._headers: Headers = {} if headers is None else headers
        self._on_event = on_event
        self._timeouts = timeouts or Timeouts()
        self._max_size = max_size
        self._machine = ClientMachine(
            lambda: secrets.token_urlsafe(16),
            random.random,
            subprotocols,
            max_messages=max_messages,
            max_bytes=max_bytes,
            min_delay=min_delay,
            max_delay=max_delay,
            timeouts=self._timeouts,
        )
        self._connection: ClientConnection | None = None

    async def __aenter__(self) -> ClientConnection:
        self._connection = ClientConnection(
            self._machine, self._url, self._headers, self._on_event, self._timeouts, self._max_size
        )
        try:
            await self._connection._begin()
        except BaseException:
            await self._connection._finish()
            raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._connection is not None
        try:
            await asyncio.wait_for(self._connection.close(), self._timeouts.close)
        except asyncio.TimeoutError:
            logger.debug("- the server did not answer the close")
        finally:
            await self._connection._finish()


async def value_of(given: Any) -> Any:
    """What was given, or what the function that was given returns."""
    value = given() if callable(given) else given
    return await value if isawaitable(value) else value
