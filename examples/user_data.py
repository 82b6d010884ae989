"""Data that the server keeps for each connection, counted as memory and gone when the connection goes.

Start it with ``python -m examples.user_data``; then ``python -m websockets ws://127.0.0.1:8000/ws/ann``,
type ``colour green`` and ``colour``, and look at http://127.0.0.1:8000/clients/ann.

Anybody who opens ``/ws/ann`` is ann here, and everybody may look. Where names matter, let ``authorize``
determine them, as the README's first example does.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException, Request, WebSocket

from wsstab import MemoryLimitExceededError, WebSocketStabilizer, get_manager

app = FastAPI()
app.add_middleware(
    WebSocketStabilizer,
    max_message_size=48 * 1024,
    max_memory_per_connection=64 * 1024,
    max_total_memory=64 * 1024 * 1024,
)


@app.websocket("/ws/{client_id}")
async def remember(websocket: WebSocket, client_id: str) -> None:
    """``key value`` stores a value, ``key`` asks for it."""
    manager = get_manager(websocket)
    await websocket.accept()
    await manager.connect(client_id, websocket, metadata={"agent": websocket.headers.get("user-agent")})
    async for text in websocket.iter_text():
        key, _, value = text.partition(" ")
        if value:
            await websocket.send_text(await keep(websocket, client_id, key, value))
        else:
            await websocket.send_text(str(await manager.get_user_data(client_id, key)))


async def keep(websocket: WebSocket, client_id: str, key: str, value: str) -> str:
    """Store a value within the limits, and return in words what happened."""
    try:
        await get_manager(websocket).set_user_data(client_id, key, value)
    except MemoryLimitExceededError as error:
        return f"not kept: {error}"
    return "kept"


@app.get("/clients/{client_id}")
async def look(client_id: str, request: Request) -> dict[str, Any]:
    """Answer with what is stored for a client."""
    connection = get_manager(request).get_connection(client_id)
    if connection is None:
        raise HTTPException(404, "nobody has that name")
    return {
        "metadata": dict(connection.metadata),
        "user_data": dict(connection.user_data),
        "memory": connection.statistics().memory,
    }


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=8000)
