"""Endpoints that nobody may open, by their path or by their own override, also in a mount; and open ones."""

from __future__ import annotations

from fastapi import FastAPI, WebSocket

from wsstab import Override, WebSocketStabilizer

from .doors import refuse

__all__ = ["app"]

GUARD = Override(authorize=refuse)


async def talk(websocket: WebSocket) -> None:
    """Accept and say so."""
    await websocket.accept()
    await websocket.send_text("inside")
    await websocket.receive()


def guarded() -> FastAPI:
    """An application with a stabilizer of its own."""
    made = FastAPI()
    made.add_middleware(WebSocketStabilizer, routes={"/admin": GUARD, "/number/7": GUARD})
    for path in ("/admin", "/open", "/number/{number:int}"):
        made.add_api_websocket_route(path, talk)
    made.add_api_websocket_route("/marked/{name}", GUARD(talk_alone))
    return made


async def talk_alone(websocket: WebSocket) -> None:
    """The same as `talk`, for the endpoint that has its own override."""
    await talk(websocket)


app = guarded()
app.mount("/v1", guarded())


@app.get("/-/health")
async def health() -> str:
    """The server is up."""
    return "up"
