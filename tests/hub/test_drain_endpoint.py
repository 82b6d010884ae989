"""The drain as an HTTP endpoint: authorization, the answer, and a drain that outlives its request."""

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
    """A manager whose drain endpoint accepts this token."""
    return WebSocketConnectionManager(WebSocketConfig(drain=Drain(endpoint_token=token)))


def ask(manager: WebSocketConnectionManager, method: str = "POST", headers: Any = TOKEN) -> Any:
    """Send a request to the drain endpoint, and return the response."""
    return TestClient(manager.drain_endpoint()).request(method, "/", headers=headers)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_with_the_token_drains(method: str) -> None:
    """The response is the report, and new connections are refused from then on."""
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
def test_a_request_without_the_token_is_refused(headers: Any, challenge: str) -> None:
    """The response has a challenge (RFC 6750 section 3), and nothing is drained."""
    manager = manager_with()
    answer = ask(manager, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, challenge)
    assert not manager.is_draining


def test_without_a_configured_token_the_endpoint_answers_404() -> None:
    """No token that a client guesses can open it."""
    manager = manager_with(None)
    assert ask(manager).status_code == 404
    assert not manager.is_draining


def test_methods_other_than_get_and_post_are_not_allowed() -> None:
    """The response names the allowed methods."""
    manager = manager_with()
    answer = ask(manager, "DELETE")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert not manager.is_draining


@pytest.mark.parametrize("name", ["Bearer", "bearer", "BEARER"])
def test_the_authentication_scheme_is_case_insensitive(name: str) -> None:
    """RFC 9110 section 11.1 requires it."""
    assert ask(manager_with(), headers={"Authorization": f"{name} s3cret"}).status_code == 200


def test_any_of_several_tokens_is_accepted() -> None:
    """This allows for replacing a token while the old one is still in use."""
    for token in ("new", "old"):
        assert ask(manager_with(["new", "old"]), headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert not matches(b"newold", ("new", "old"))


def test_the_token_is_in_no_repr_and_may_come_from_the_environment() -> None:
    """Representations end up in logs."""
    drain = Drain(endpoint_token="s3cret")
    assert "s3cret" not in repr(drain) + repr(WebSocketConfig(drain=drain)) + repr(manager_with())
    config = WebSocketConfig.from_env(environ={"WSSTAB_DRAIN_ENDPOINT_TOKEN": "s3cret"})
    assert config.drain.endpoint_token == "s3cret"


def added(app: type[Starlette]) -> Callable[[ASGIApp], ASGIApp]:
    """A function that makes an application and adds the endpoint by ``add_route``."""

    def make(endpoint: ASGIApp) -> ASGIApp:
        made = app()
        made.add_route("/drain", endpoint, methods=["GET", "POST"])  # type: ignore[arg-type]
        return made

    return make


def with_route(route: Callable[[ASGIApp], BaseRoute]) -> Callable[[ASGIApp], ASGIApp]:
    """A function that makes an application with a route for the endpoint."""
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
def test_the_endpoint_may_be_routed_or_mounted_like_any_asgi_application(make: Callable[[ASGIApp], ASGIApp]) -> None:
    """Starlette and FastAPI treat it alike."""
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
    """A program around the line of code in the documentation of ``drain_endpoint``."""
    documentation = inspect.getdoc(WebSocketConnectionManager.drain_endpoint) or ""
    (line,) = re.findall(r"^    (\S.*)$", documentation, re.MULTILINE)
    return RECIPE.format(framework=framework, name=name, line=line)


@pytest.mark.parametrize(("framework", "name"), [("starlette.applications", "Starlette"), ("fastapi", "FastAPI")])
def test_the_documented_line_works_and_passes_mypy(framework: str, name: str, tmp_path: Path) -> None:
    """Code that is copied from the documentation must pass in strict mode."""
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
    """Each test runs on both backends."""
    return str(request.param)


async def call(manager: WebSocketConnectionManager, sent: list[Event]) -> None:
    """Call the endpoint directly, without a client or a server."""

    async def receive() -> Event:
        raise AssertionError("nothing is to be received")

    async def send(event: Event) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "POST", "headers": [(b"Authorization", b"Bearer s3cret")]}
    await manager.drain_endpoint()(scope, receive, send)


async def test_a_cancelled_request_does_not_end_the_drain() -> None:
    """The next request joins the same drain and gets its report."""
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


async def test_the_endpoint_refuses_a_websocket() -> None:
    """A mount passes WebSockets on as well."""
    sent: list[Event] = []

    async def send(event: Event) -> None:
        sent.append(event)

    await manager_with().drain_endpoint()({"type": "websocket"}, AsyncMock(), send)
    assert [event["type"] for event in sent] == ["websocket.close"]
