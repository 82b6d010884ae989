"""Statistics, liveness and readiness; readiness fails while the process drains.

Start it with ``python -m examples.health``; then look at http://127.0.0.1:8000/stats, and at
http://127.0.0.1:8000/ready while the process that you told to stop still has sockets to close.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket

from wsstab import WebSocketStabilizer, get_manager

app = FastAPI()
app.add_middleware(WebSocketStabilizer, enable_metrics=True)


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    """Something to count."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.get("/live")
async def live() -> dict[str, bool]:
    """Whether the process should go on living: it answers, so yes, also while it drains."""
    return {"alive": True}


@app.get("/ready")
async def ready(request: Request, response: Response) -> dict[str, bool]:
    """Whether new sockets should come here: 503 from the moment that a drain begins."""
    manager = get_manager(request)
    response.status_code = 200 if manager.is_ready else 503
    return {"ready": manager.is_ready, "draining": manager.is_draining}


@app.get("/stats")
async def stats(request: Request) -> dict[str, Any]:
    """What the manager has counted."""
    manager = get_manager(request)
    return asdict(manager.statistics()) | {"memory_usage": manager.get_memory_usage()}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=8000)
