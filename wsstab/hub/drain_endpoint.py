"""Drain endpoint: starts a drain by an HTTP request, for ``preStop`` hooks and servers without signals.

It is an ASGI application, for any route or mount, and reads only the method and the ``Authorization`` header.
GET drains as POST does, because ``httpGet`` hooks of Kubernetes can send nothing else.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Protocol

from ..config import WebSocketConfig
from ..loop.tasks import Latch, current_loop
from ..reports import ShutdownReport
from ..types import Receive, Scope, Send

__all__ = ["DrainEndpoint"]

BEARER = b"bearer "


class Drained(Protocol):
    """What the endpoint asks of a manager."""

    @property
    def config(self) -> WebSocketConfig:
        """The configuration."""

    async def drain(self) -> ShutdownReport:
        """Refuse new connections, and close the open ones in batches."""


class DrainEndpoint:
    """Drains a manager for a request that carries the token (RFC 6750).

    Answers when the drain is over: 200 with the `ShutdownReport` as JSON; 404 if no token is configured, 401 for a
    wrong or missing token, 405 for methods other than GET and POST. A request during a drain gets the report of that
    drain. A drain goes on when its request is aborted.

    Args:
        manager: the manager to drain.
    """

    def __init__(self, manager: Drained) -> None:
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A mount passes WebSockets on as well.
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        status, body, headers = await self._answer(scope)
        content = json.dumps(body).encode()
        fixed = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": int(status), "headers": fixed + headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope) -> tuple[HTTPStatus, dict[str, Any], list[tuple[bytes, bytes]]]:
        token = self._manager.config.drain.endpoint_token
        if token is None:
            return HTTPStatus.NOT_FOUND, {"error": "not found"}, []
        given = bearer(scope)
        if given is None:
            return HTTPStatus.UNAUTHORIZED, {"error": "a token is needed"}, [(b"www-authenticate", b"Bearer")]
        if not matches(given, token):
            challenge = (b"www-authenticate", b'Bearer error="invalid_token"')
            return HTTPStatus.UNAUTHORIZED, {"error": "wrong token"}, [challenge]
        if scope["method"] not in ("GET", "POST"):
            return HTTPStatus.METHOD_NOT_ALLOWED, {"error": "GET or POST"}, [(b"allow", b"GET, POST")]
        return HTTPStatus.OK, asdict(await self._drain()), []

    async def _drain(self) -> ShutdownReport:
        latch, reports = Latch(), list[ShutdownReport]()

        async def drain() -> None:
            try:
                reports.append(await self._manager.drain())
            finally:
                latch.set()

        # A task of its own: some servers and middleware cancel the request's task when the client disconnects.
        current_loop().spawn(drain)
        await latch.wait()
        return reports[0]


def bearer(scope: Scope) -> bytes | None:
    """The bearer token of a request; ``None`` if it has none, or several."""
    values = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    if len(values) != 1 or values[0][: len(BEARER)].lower() != BEARER:
        return None
    return bytes(values[0][len(BEARER) :].strip())


def matches(given: bytes, token: str | Sequence[str]) -> bool:
    """Whether a token is one of those configured; takes the same time however much of it is right."""
    tokens = [token] if isinstance(token, str) else token
    # Compare with all of them: stopping at a match would tell which one it was.
    return sum(hmac.compare_digest(given, each.encode()) for each in tokens) > 0
