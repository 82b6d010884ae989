"""The compositions: the stabilizer among which packages, on which servers, and what is expected.

The servers' processes build what is named here, the tests ask each row every question, and the page of
the documentation has a line for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.server import Variant

__all__ = ["BROWSER", "CLIENTS", "FRAMEWORKS", "NATIVE", "PLAIN", "ROWS", "SERVERS", "Row", "stands"]

NATIVE, PLAIN = "native", "plain"
"""The wire of the server, or plain ASGI."""

SERVERS = [
    Variant("uvicorn", "uvloop", "websockets-sansio"),
    Variant("hypercorn", "uvloop"),
    Variant("hypercorn", "trio"),
    Variant("granian", "asyncio"),
    Variant("daphne", "asyncio"),
]
"""Where every composition is tried, if it runs there at all."""

CLIENTS = "clients"
"""The process of programs that speak the protocol of another package: these have clients and tests of their own."""

FRAMEWORKS = ("frameworks", "channels")
"""The processes of programs written for other frameworks, which report no context variables."""

BROWSER = "browser"
"""A page in a browser, on one server."""

INSIDE = ("inside",)
PASSES = ("outside", "inside")
MIDDLEWARE = ("outside", "inside", "both")


@dataclass(frozen=True)
class Row:
    """One composition.

    Args:
        name: the name of its program, also used in paths.
        title: its title on the page.
        packages: the distributions whose versions the page names.
        places: where it stands, seen from the stabilizer: ``outside``, ``inside``, ``both``.
        process: the server process that has it; a package that changes a whole process needs one of its own.
        plain: places at which the wire is plain ASGI, with the reason.
        traces: whether it makes spans.
        as_bare: paths of handlers whose end the framework itself decides.
        around_each: whether it stands around each middleware, and so inside of the stabilizer too.
        logs_departures: whether it logs the error that a send to a peer that has left raises in a handler.
        hidden_by: the function that the warning names where the wire is plain ASGI.
        never: servers on which it does not run by itself, by the beginning of their name, with the reason.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    places: tuple[str, ...] = MIDDLEWARE
    process: str = "middleware"
    plain: Mapping[str, str] = field(default_factory=dict)
    traces: bool = False
    as_bare: tuple[str, ...] = ()
    around_each: bool = False
    logs_departures: bool = False
    hidden_by: str = ""
    never: Mapping[str, str] = field(default_factory=dict)

    def wire(self, place: str) -> str:
        """Which wire is expected there."""
        return PLAIN if place in self.plain else NATIVE

    def runs_on(self, variant: Variant) -> bool:
        """Whether it runs there by itself."""
        return self.reason_against(variant) is None

    def reason_against(self, variant: Variant) -> str | None:
        """Why it does not run there by itself; ``None`` where it does."""
        return next((why for name, why in self.never.items() if str(variant).startswith(name)), None)


ASYNCIO = {"hypercorn-trio": "it runs on asyncio only"}
ONCE = dict.fromkeys(("hypercorn", "granian", "daphne"), "tried on uvicorn alone")
QUART = ASYNCIO | {"daphne": "it wants a scheme in the scope, which daphne does not give"}
CHANGES = "it is not known to pass every message unchanged"

ROWS = [
    Row("alone", "Nothing else", ("starlette", "fastapi"), places=INSIDE),
    Row("sessions", "Starlette's `SessionMiddleware`", ("starlette",)),
    Row("base-http", "Starlette's `BaseHTTPMiddleware`", ("starlette",), PASSES),
    Row("cors", "Starlette's `CORSMiddleware`", ("starlette",), PASSES),
    Row("gzip", "Starlette's `GZipMiddleware`", ("starlette",), PASSES),
    Row("trusted-host", "Starlette's `TrustedHostMiddleware`", ("starlette",), PASSES),
    Row("proxy-fix-legacy", "hypercorn's `ProxyFixMiddleware`, legacy", ("hypercorn",)),
    Row("proxy-fix-modern", "hypercorn's `ProxyFixMiddleware`, modern", ("hypercorn",)),
    Row(
        "starlette-context",
        "starlette-context",
        ("starlette-context",),
        hidden_by="starlette_context.middleware.raw_middleware.send_wrapper",
        plain={"outside": CHANGES, "both": CHANGES},
    ),
    Row("correlation-id", "asgi-correlation-id", ("asgi-correlation-id",)),
    Row(
        "changes-messages",
        "custom middleware that changes messages by a context variable",
        (),
        hidden_by="tests.composition.apps.packages.tell",
        plain={"outside": CHANGES, "both": CHANGES},
    ),
    Row("rebuilds-scope", "custom middleware that rebuilds the scope", (), PASSES),
    Row("copies-scope", "custom middleware that copies the scope deeply", ()),
    Row(
        "opentelemetry-fastapi",
        "OpenTelemetry's instrumentation of FastAPI",
        ("opentelemetry-instrumentation-fastapi",),
        places=("outside", "inside"),
        process="opentelemetry",
        traces=True,
    ),
    Row(
        "opentelemetry-asgi",
        "OpenTelemetry's ASGI middleware",
        ("opentelemetry-instrumentation-asgi",),
        process="opentelemetry",
        traces=True,
    ),
    Row("sentry", "sentry-sdk", ("sentry-sdk",), places=("outside", "inside"), process="sentry", traces=True),
    Row(
        "sentry-middleware-spans",
        "sentry-sdk, `middleware_spans=True`",
        ("sentry-sdk",),
        places=("outside", "inside"),
        process="sentry-middleware-spans",
        traces=True,
        around_each=True,
    ),
    Row("ddtrace", "ddtrace", ("ddtrace",), places=("outside", "inside"), process="ddtrace", traces=True),
    Row(
        "quart",
        "Quart",
        ("quart",),
        places=INSIDE,
        process="frameworks",
        logs_departures=True,
        as_bare=("/raises",),
        never=QUART,
    ),
    Row(
        "litestar",
        "Litestar",
        ("litestar",),
        ("outside", "inside"),
        "frameworks",
        logs_departures=True,
        as_bare=("/raises",),
    ),
    Row("channels", "Django Channels", ("channels", "django"), ("outside", "inside"), "channels", never=ASYNCIO),
    Row("pubsub", "fastapi_websocket_pubsub", ("fastapi-websocket-pubsub",), INSIDE, CLIENTS, never=ASYNCIO),
    Row("graphql", "strawberry, `graphql-transport-ws`", ("strawberry-graphql",), INSIDE, CLIENTS, never=ASYNCIO),
    Row("socketio", "python-socketio", ("python-socketio",), INSIDE, CLIENTS, never=ASYNCIO),
    Row("nicegui", "NiceGUI, in Chromium", ("nicegui",), INSIDE, BROWSER, never=ONCE),
]


def stands(row: Row, place: str) -> str:
    """The name of a composition at a place, as in the ids of tests."""
    return f"{row.name}-{place}"
