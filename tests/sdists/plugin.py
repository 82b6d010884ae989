"""A pytest plugin for test suites of other packages: ``SDIST_MODE`` says how they use this package.

``renamed``: what they import as ``fastapi_websocket_stabilizer`` is this package. ``wrapped``: each application that
Starlette's tests give to their client stands behind the middleware. Otherwise nothing is changed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
from typing import Any

import pytest

MODE = os.environ.get("SDIST_MODE", "")

if MODE == "renamed":
    import wsstab

    sys.modules["fastapi_websocket_stabilizer"] = wsstab


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that these tests have for another plugin."""
    config.addinivalue_line("markers", "asyncio: runs on an event loop")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test with this marker on a loop of its own."""
    function = pyfuncitem.obj
    if pyfuncitem.get_closest_marker("asyncio") is None or not inspect.iscoroutinefunction(function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(function(**arguments))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Any:
    """Put the middleware around each application."""
    made = yield
    if MODE == "wrapped" and fixturedef.argname == "test_client_factory":
        made = fixturedef.cached_result = (wrapping(made), *fixturedef.cached_result[1:])
        return made[0]
    return made


def wrapping(factory: Any) -> Any:
    """A factory of test clients that puts each application behind the middleware."""
    from wsstab import WebSocketStabilizer

    @functools.wraps(factory.func)
    def make(app: Any, *arguments: Any, **more: Any) -> Any:
        return factory(WebSocketStabilizer(app), *arguments, **more)

    return make
