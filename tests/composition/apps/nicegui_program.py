"""A page of NiceGUI on FastAPI, bare or wrapped: a counter that is clicked, and a clock that the server pushes."""

from __future__ import annotations

import os
import tempfile

# NiceGUI keeps files where it was started, unless it is told otherwise.
os.environ["NICEGUI_STORAGE_PATH"] = tempfile.mkdtemp(prefix="nicegui-")

from fastapi import FastAPI, Request
from nicegui import ui

from wsstab import WebSocketStabilizer

from .packages import PROCESS

__all__ = ["app"]

app = FastAPI()
if PROCESS == "wrapped":
    app.add_middleware(WebSocketStabilizer, heartbeat_interval=0.2)


@app.get("/-/health")
async def health() -> str:
    """The server is up."""
    return "up"


@app.get("/-/count")
async def count(request: Request) -> dict[str, int]:
    """Open connections, and pings sent to them."""
    statistics = request.state.manager.statistics()
    return {"connections": statistics.connections, "heartbeats": statistics.heartbeats_sent}


@ui.page("/page")
def page() -> None:
    """The page."""
    clicks, ticks = {"number": 0}, {"number": 0}

    def click() -> None:
        clicks["number"] += 1
        clicked.set_text(f"clicked {clicks['number']}")

    def tick() -> None:
        ticks["number"] += 1
        ticked.set_text(f"ticked {ticks['number']}")

    clicked = ui.label("clicked 0").classes("clicked")
    ticked = ui.label("ticked 0").classes("ticked")
    ui.button("click", on_click=click)
    ui.timer(0.1, tick)


ui.run_with(app, tailwind=False, show_welcome_message=False)
