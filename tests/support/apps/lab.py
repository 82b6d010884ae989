"""One server that runs many stabilised applications, each made when a test asks for it.

``POST /-/open`` makes a lab: an application behind a stabilizer with a manager
of its own, reached under ``/<key>/``. A test thus begins with counters at zero,
and no server has to be started for it. The other paths under ``/-/`` look
inside: statistics, events, connections, notes of the handlers, tasks; or do
something: call a method of the manager, send a burst, stall the loop.

Labs see no lifespan (their managers start by themselves); applications with
one are served by themselves, see ``service.py``.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import trio
from sniffio import current_async_library
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.support.options import decode, load
from wsstab import BroadcastFailedError, Connection, WebSocketConfig, WebSocketConnectionManager, WebSocketStabilizer
from wsstab.events import Event
from wsstab.manager import hub_of
from wsstab.types import Receive, Scope, Send

__all__ = ["app"]


class Lab:
    """One stabilised application.

    Args:
        make: module:attribute of the application, or of a function that makes it.
        options: fields of the configuration.
    """

    def __init__(self, make: str, options: dict[str, Any]) -> None:
        self.events: list[dict[str, Any]] = []
        self.notes: list[Any] = []
        self.manager = WebSocketConnectionManager(WebSocketConfig(**decode(options)))
        self.manager.on(Event, self.record)
        made = load(make)
        inner = made() if make.partition(":")[2].startswith("make") else made
        self.app = WebSocketStabilizer(inner, manager=self.manager)

    def record(self, event: Event) -> None:
        """Keep an event for the test."""
        data = {field.name: plain(getattr(event, field.name)) for field in fields(event)}
        self.events.append({"type": type(event).__name__, "at": time.monotonic(), **data})


labs: dict[str, Lab] = {}
numbers = itertools.count(1)


def plain(value: Any) -> Any:
    """Any value, in types that JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value if isinstance(value, (int, float, str, type(None))) else repr(value)


def describe(connection: Connection) -> dict[str, Any]:
    """A connection as the tests look at it."""
    names = ("id", "client_id", "rooms", "metadata", "user_data", "address", "path", "opened_at", "last_activity")
    facts = {name: plain(getattr(connection, name)) for name in (*names, "latency", "draining")}
    return facts | {"statistics": plain(connection.statistics())}


async def open_lab(request: Request) -> JSONResponse:
    """Make a lab, and answer with its key."""
    job = await request.json()
    key = f"lab{next(numbers)}"
    labs[key] = Lab(job["app"], job["options"])
    return JSONResponse(key)


async def close_lab(request: Request) -> JSONResponse:
    """Shut a lab down, and answer with the report."""
    lab = labs.pop(request.path_params["key"])
    report = await lab.manager.graceful_shutdown(timeout=1.0)
    return JSONResponse(plain(report))


def held(manager: WebSocketConnectionManager) -> dict[str, int]:
    """How many of each thing a manager holds for connections, open or not: all zero when none is left."""
    services = list(hub_of(manager).loops.services.values())
    return {
        "calls": len(hub_of(manager).calls),
        "connections": len(hub_of(manager).registry),
        "rooms": hub_of(manager).registry.room_count,
        "places": hub_of(manager).admission.count,
        "addresses": len(hub_of(manager).admission._by_address),
        "bytes": hub_of(manager).ledger.total,
        "members": hub_of(manager).ledger.count,
        "lingering": len(hub_of(manager).lingering),
        "served": sum(each.connections for each in services),
        "deadlines": sum(len(each.timekeeper._wheel) for each in services),
        "lagging": sum(len(each.backpressure.lagging) for each in services),
        "unread": sum(len(each.readahead._away) for each in services),
        "log": sum(len(each.turn_log.pending) for each in services),
    }


async def look(request: Request) -> JSONResponse:
    """Answer with one view of a lab."""
    lab = labs[request.path_params["key"]]
    views: dict[str, Callable[[], Any]] = {
        "statistics": lambda: plain(lab.manager.statistics()),
        "events": lambda: lab.events,
        "admitted": lambda: hub_of(lab.manager).admission.count,
        "notes": lambda: lab.notes,
        "connections": lambda: [describe(connection) for connection in lab.manager.connections()],
        "held": lambda: held(lab.manager),
        "repr": lambda: repr(lab.manager),
    }
    return JSONResponse(views[request.path_params["view"]]())


async def call(request: Request) -> JSONResponse:
    """Call a method of the manager, or of the connection of ``client_id``; answer with its result or error."""
    lab, job = labs[request.path_params["key"]], await request.json()
    target: Any = lab.manager
    if job["client_id"] is not None:
        target = lab.manager.get_connection(job["client_id"])
    try:
        result = getattr(target, job["method"])
        result = result(*job["args"], **job["kwargs"]) if callable(result) else result
        result = await result if inspect.isawaitable(result) else result
    except Exception as error:
        return JSONResponse({"error": type(error).__name__, "message": str(error)})
    return JSONResponse({"result": plain(result)})


async def burst(request: Request) -> JSONResponse:
    """Broadcast numbered messages in a row; answer with the sums of the results and the seconds taken."""
    lab, job = labs[request.path_params["key"]], await request.json()
    results, began = [], time.monotonic()
    for number in range(job["count"]):
        text = f"{number:08d}".ljust(job["size"], "x")
        message = text if job["text"] else text.encode()
        key = job["key"] and job["key"].format(number=number)
        try:
            results.append(await lab.manager.broadcast(message, room=job["room"], key=key))
        except BroadcastFailedError as failed:
            results.append(failed.result)
    names = ("total", "succeeded", "failed", "queued", "dropped")
    sums = {name: sum(getattr(result, name) for result in results) for name in names}
    return JSONResponse({**sums, "seconds": time.monotonic() - began})


async def health(request: Request) -> JSONResponse:
    """The server is up."""
    return JSONResponse("up")


async def stall(request: Request) -> JSONResponse:
    """Block the event loop, as a handler with a slow database driver does."""
    time.sleep(float(request.query_params["seconds"]))  # noqa: ASYNC251
    return JSONResponse("stalled")


OWN = (
    # uvicorn
    "Server.serve",
    "LifespanOn.main",
    # hypercorn
    "worker_serve",
    "raise_shutdown",
    "Lifespan.handle_lifespan",
    "serve_listeners",
    "_serve_one_listener",
    # trio
    "Runner.init",
    "EntryQueue.task",
    # granian
    "MPServer._spawn_asgi_lifespan_worker.<locals>._main",
    "MPServer._spawn_asgi_worker.<locals>._main",
    "LifespanProtocol.handle",
)
"""Names of the coroutines that a server runs for itself."""

OF_A_REQUEST = (
    # uvicorn
    "RequestResponseCycle.run_asgi",
    # hypercorn
    "_handle",
    "worker_serve.<locals>._server_callback",
    "_run_handler",
    "StreamReader.read",
    # granian
    "_future_watcher_wrapper.<locals>.future_watcher",
    # daphne
    "app",
)
"""Names of what it runs for one open connection: those of the request that asks are not counted."""

OF_AN_IDLE_CONNECTION = (
    "TCPServer._idle_timeout",
    "EventWrapper.wait",
    "worker_serve.<locals>._server_callback",
    "_run_handler",
    "StreamReader.read",
)
"""hypercorn waits five seconds for a next request, even where the peer has left."""


def running() -> list[str]:
    """What runs on this event loop, by name of its coroutine."""
    if current_async_library() == "asyncio":
        return [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    root = trio.lowlevel.current_root_task()
    tasks, names = [root] if root else [], []
    while tasks:
        task = tasks.pop()
        names.append(task.coro.__qualname__)
        tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return names


async def tasks(request: Request) -> JSONResponse:
    """What runs on the loop, by name of its coroutine, without the server's own and this request."""
    left = [name for name in running() if name not in OWN]
    idle = [name for name in left if name == "TCPServer._idle_timeout"]
    for name in (*OF_A_REQUEST, *OF_AN_IDLE_CONNECTION * len(idle)):
        if name in left:
            left.remove(name)
    return JSONResponse(left)


control = Starlette(
    routes=[
        Route("/-/open", open_lab, methods=["POST"]),
        Route("/-/health", health),
        Route("/-/stall", stall, methods=["POST"]),
        Route("/-/tasks", tasks),
        Route("/-/{key}/close", close_lab, methods=["POST"]),
        Route("/-/{key}/call", call, methods=["POST"]),
        Route("/-/{key}/burst", burst, methods=["POST"]),
        Route("/-/{key}/{view}", look),
    ]
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application: control, or the lab whose key begins the path."""
    if scope["type"] == "lifespan" or scope["path"].startswith("/-/"):
        await control(scope, receive, send)
        return
    key, _, rest = scope["path"][1:].partition("/")
    lab = labs[key]
    scope.setdefault("state", {})["notes"] = lab.notes
    scope["path"] = f"/{rest}"
    scope["raw_path"] = scope["path"].encode()
    await lab.app(scope, receive, send)
