"""A GraphQL application of strawberry, wrapped."""

from __future__ import annotations

from strawberry.asgi import GraphQL

from .schema import SCHEMA
from .wrapped import wrap

__all__ = ["app"]

app = wrap(GraphQL(SCHEMA))
