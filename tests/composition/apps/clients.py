"""Programs that speak the protocol of another package, to be used by the protocol's own client."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from wsstab.types import ASGIApp

from .frameworks import wrapping
from .packages import BUILDERS
from .subject import Subject

__all__: list[str] = []


def build_pubsub(subject: Subject, place: str) -> ASGIApp:
    """fastapi_websocket_pubsub: topics over RPC, on a route of FastAPI."""
    from fastapi_websocket_pubsub import PubSubEndpoint

    async def left(channel: Any) -> None:
        subject.notes.append(["pubsub", "left", None])

    api, endpoint = FastAPI(), PubSubEndpoint(on_disconnect=[left])
    endpoint.register_route(api, "/pubsub")

    @api.post("/publish")
    async def publish(topic: str, data: str) -> None:
        await endpoint.publish([topic], data)

    return wrapping(subject, api)


def build_graphql(subject: Subject, place: str) -> ASGIApp:
    """strawberry: subscriptions over ``graphql-transport-ws``."""
    from strawberry.asgi import GraphQL

    from tests.support.apps.schema import SCHEMA

    app: Any = GraphQL(SCHEMA)
    return wrapping(subject, app)


def build_socketio(subject: Subject, place: str) -> ASGIApp:
    """python-socketio: events over Engine.IO."""
    import socketio

    server = socketio.AsyncServer(async_mode="asgi", transports=["websocket", "polling"])

    async def shout(sid: str, message: object) -> object:
        await server.emit("heard", message)
        return message

    async def disconnect(sid: str, reason: str) -> None:
        subject.notes.append(["socketio", "left", None])

    server.on("shout", shout)
    server.on("disconnect", disconnect)
    return wrapping(subject, socketio.ASGIApp(server))


BUILDERS |= {"pubsub": build_pubsub, "graphql": build_graphql, "socketio": build_socketio}
