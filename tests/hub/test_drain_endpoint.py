"""The drain as an HTTP endpoint: who may, what is answered, and that it goes on by itself."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from tests.support.stage import settle, until
from wsstab import Drain, WebSocketConfig, WebSocketConnectionManager
from wsstab.hub.drain_endpoint import matches
from wsstab.types import ASGIApp, Event

ROOT = Path(__file__).parents[2]
TOKEN = {"Authorization": "Bearer s3cret"}


def manager_with(token: Any = "s3cret") -> WebSocketConnectionManager:
    """A manager whose endpoint takes this token."""
    return WebSocketConnectionManager(WebSocketConfig(drain=Drain(endpoint_token=token)))


def ask(manager: WebSocketConnectionManager, method: str = "POST", headers: Any = TOKEN) -> Any:
    """The answer to a request."""
    return TestClient(manager.drain_endpoint()).request(method, "/", headers=headers)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_whoever_knows_the_token_drains(method: str) -> None:
    """The answer is the report; new connections are refused from then on."""
    manager = manager_with()
    answer = ask(manager, method)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json() == {
        "closed_count": 0,
        "failed_count": 0,
        "duration_seconds": pytest.approx(0, abs=1),
    }
    assert manager.is_draining


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": "Basic czNjcmV0"}, "Bearer"),
        ({"Authorization": "s3cret"}, "Bearer"),
        ([("Authorization", "Bearer s3cret"), ("Authorization", "Bearer s3cret")], "Bearer"),
        ({"Authorization": "Bearer "}, 'Bearer error="invalid_token"'),
        ({"Authorization": "Bearer wrong"}, 'Bearer error="invalid_token"'),
        ({"Authorization": "Bearer s3cret2"}, 'Bearer error="invalid_token"'),
        ({"Authorization": b"Bearer \xff"}, 'Bearer error="invalid_token"'),
    ],
)
def test_whoever_does_not_is_refused(headers: Any, challenge: str) -> None:
    """With a challenge, and nothing happens (RFC 6750 section 3)."""
    manager = manager_with()
    answer = ask(manager, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, challenge)
    assert not manager.is_draining


def test_without_a_token_there_is_no_endpoint() -> None:
    """Not even for those who guess one."""
    manager = manager_with(None)
    assert ask(manager).status_code == 404
    assert not manager.is_draining


def test_other_methods_are_not_allowed() -> None:
    """Those which do not mean that something is to happen."""
    manager = manager_with()
    answer = ask(manager, "DELETE")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert not manager.is_draining


@pytest.mark.parametrize("name", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(name: str) -> None:
    """RFC 9110 section 11.1."""
    assert ask(manager_with(), headers={"Authorization": f"{name} s3cret"}).status_code == 200


def test_of_several_tokens_each_is_good() -> None:
    """While a new one is handed out."""
    for token in ("new", "old"):
        assert ask(manager_with(["new", "old"]), headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert not matches(b"newold", ("new", "old"))


def test_the_token_is_shown_nowhere() -> None:
    """And can come from the environment."""
    drain = Drain(endpoint_token="s3cret")
    assert "s3cret" not in repr(drain) + repr(WebSocketConfig(drain=drain)) + repr(manager_with())
    config = WebSocketConfig.from_env(environ={"WSSTAB_DRAIN_ENDPOINT_TOKEN": "s3cret"})
    assert config.drain.endpoint_token == "s3cret"


def added(app: type[Starlette]) -> Callable[[ASGIApp], ASGIApp]:
    """An application to which it was added."""

    def make(endpoint: ASGIApp) -> ASGIApp:
        made = app()
        made.add_route("/drain", endpoint, methods=["GET", "POST"])  # type: ignore[arg-type]
        return made

    return make


def with_route(route: Callable[[ASGIApp], BaseRoute]) -> Callable[[ASGIApp], ASGIApp]:
    """An application with a route for it."""
    return lambda endpoint: Starlette(routes=[route(endpoint)])


@pytest.mark.parametrize(
    "make",
    [
        with_route(lambda endpoint: Route("/drain", endpoint, methods=["POST"])),
        with_route(lambda endpoint: Mount("/drain", endpoint)),
        added(Starlette),
        added(FastAPI),
    ],
    ids=["route", "mount", "starlette", "fastapi"],
)
def test_it_stands_wherever_an_asgi_application_may(make: Callable[[ASGIApp], ASGIApp]) -> None:
    """As a route, as a mount."""
    manager = manager_with()
    assert TestClient(make(manager.drain_endpoint())).post("/drain", headers=TOKEN).status_code == 200
    assert manager.is_draining


RECIPE = """\
from {framework} import {name}
from starlette.routing import Route
from wsstab import WebSocketConnectionManager

def add(manager: WebSocketConnectionManager) -> {name}:
    app = {name}()
    {line}
    return app
"""


def recipe(framework: str, name: str) -> str:
    """A program around the line that the documentation tells to write."""
    documentation = inspect.getdoc(WebSocketConnectionManager.drain_endpoint) or ""
    (line,) = re.findall(r"^    (\S.*)$", documentation, re.MULTILINE)
    return RECIPE.format(framework=framework, name=name, line=line)


@pytest.mark.parametrize(("framework", "name"), [("starlette.applications", "Starlette"), ("fastapi", "FastAPI")])
def test_the_documented_line_works_and_type_checkers_agree(framework: str, name: str, tmp_path: Path) -> None:
    """Whoever copies it gets no error from mypy."""
    program = tmp_path / "program.py"
    program.write_text(recipe(framework, name))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    checked = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert checked.returncode == 0, checked.stdout
    names: dict[str, Any] = {}
    exec(program.read_text(), names)
    manager = manager_with()
    with TestClient(names["add"](manager)) as client:
        assert [getattr(client, method)("/drain").status_code for method in ("get", "post")] == [401, 401]
        assert client.post("/drain", headers=TOKEN).status_code == 200


pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


async def call(manager: WebSocketConnectionManager, sent: list[Event]) -> None:
    """Ask with nothing between."""

    async def receive() -> Event:
        raise AssertionError("nothing is to be received")

    async def send(event: Event) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "POST", "headers": [(b"Authorization", b"Bearer s3cret")]}
    await manager.drain_endpoint()(scope, receive, send)


async def test_a_request_that_is_broken_off_ends_no_drain() -> None:
    """Whoever asks next gets the report of the same one."""
    manager, leave, sent = manager_with(), anyio.Event(), list[Event]()
    socket = AsyncMock()

    async def close(**how: Any) -> None:
        await leave.wait()

    socket.close.side_effect = close
    await manager.connect("ann", socket)
    async with anyio.create_task_group() as group:
        group.start_soon(call, manager, sent)
        await until(lambda: socket.close.await_count)
        group.cancel_scope.cancel()
    assert sent == []
    assert manager.is_draining
    async with anyio.create_task_group() as group:
        group.start_soon(call, manager, sent)
        await settle()
        assert sent == []
        leave.set()
    assert (sent[0]["status"], b'"closed_count": 1' in sent[1]["body"]) == (200, True)


async def test_a_websocket_is_refused() -> None:
    """Where it is mounted, one may come by."""
    sent: list[Event] = []

    async def send(event: Event) -> None:
        sent.append(event)

    await manager_with().drain_endpoint()({"type": "websocket"}, AsyncMock(), send)
    assert [event["type"] for event in sent] == ["websocket.close"]
