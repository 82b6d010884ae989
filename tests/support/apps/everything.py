"""All the small handlers in one Starlette application, with HTTP beside them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from . import concurrent, doorstep, echo, endings, silent, talking

__all__ = ["make_app"]


async def hello(request: Request) -> JSONResponse:
    """Answer with a number that only the manager knows."""
    return JSONResponse({"connections": request.state.manager.get_connection_count()})


def make_app() -> Starlette:
    """A fresh application."""
    return Starlette(
        routes=[
            *echo.routes,
            *doorstep.routes,
            *endings.routes,
            *silent.routes,
            *talking.routes,
            *concurrent.routes,
            Route("/hello", hello),
        ]
    )
