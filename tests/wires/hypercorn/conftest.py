"""Fixtures that the tests of these wires share."""

from __future__ import annotations

import pytest

from tests.wires.hypercorn.doubles import Hypercorn


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on asyncio and on trio."""
    return str(request.param)


@pytest.fixture
def hypercorn(anyio_backend: str) -> Hypercorn:
    """A stream over HTTP/1.1."""
    return Hypercorn(anyio_backend)
