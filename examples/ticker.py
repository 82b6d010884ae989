"""A push-only ticker: a slow reader misses old prices, never the newest one of a symbol.

Start it with ``python -m examples.ticker``; then ``python -m websockets ws://127.0.0.1:8000/prices``.

The handler never receives. It need not: it sleeps until its connection is closed, and the stabilizer
notices when the peer leaves.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI, WebSocket

from wsstab import Outbound, WebSocketConfig, WebSocketConnectionManager, WebSocketStabilizer, get_connection

PRICES = {"ASML": 912.0, "NOVO": 71.5, "SAP": 243.0, "SHEL": 31.2, "TTE": 57.9}
PAUSE = 0.05
"""Seconds between two rounds of prices."""

manager = WebSocketConnectionManager(WebSocketConfig(outbound=Outbound(policy="latest")))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Move the prices while the application runs."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(move_prices)
        yield
        tasks.cancel_scope.cancel()


async def move_prices() -> None:
    """Send each new price; under one key only the newest unsent message is kept."""
    while True:
        for symbol in PRICES:
            PRICES[symbol] = round(PRICES[symbol] * random.gauss(1, 0.0005), 2)
            await manager.broadcast({"symbol": symbol, "price": PRICES[symbol]}, key=symbol)
        await anyio.sleep(PAUSE)


app = FastAPI(lifespan=lifespan)
app.add_middleware(WebSocketStabilizer, manager=manager)


@app.websocket("/prices")
async def prices(websocket: WebSocket) -> None:
    """Stay until the reader leaves."""
    await websocket.accept()
    await get_connection(websocket).closed


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=8000)
