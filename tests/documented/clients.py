"""The two ways to use Starlette's TestClient, each on an application that is used several times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp

__all__ = ["MakeClient", "every_client"]

MakeClient = Callable[[ASGIApp], AbstractContextManager[TestClient]]


@contextmanager
def with_lifespan(app: ASGIApp) -> Iterator[TestClient]:
    """A client that starts and stops the application; its sockets share one loop."""
    with TestClient(app) as client:
        yield client


@contextmanager
def bare(app: ASGIApp) -> Iterator[TestClient]:
    """A client without a lifespan: each socket has its own event loop and thread."""
    yield TestClient(app)


every_client = pytest.mark.parametrize(
    ("client_of", "repetition"),
    [(client_of, repetition) for client_of in (with_lifespan, bare) for repetition in range(3)],
)
"""Run a test with both kinds of client, three times each."""
