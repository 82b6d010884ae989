"""A GraphQL schema with a subscription that counts."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import strawberry

__all__ = ["SCHEMA"]

running = 0
"""Subscriptions that have not ended."""


@strawberry.type
class Query:
    """What can be queried."""

    @strawberry.field
    def running(self) -> int:
        """How many subscriptions have not ended."""
        return running


@strawberry.type
class Subscription:
    """What can be subscribed to."""

    @strawberry.subscription
    async def count(self, upto: int, pause: float = 0.0) -> AsyncGenerator[int, None]:
        """The numbers from 0 up."""
        global running
        running += 1
        try:
            for number in range(upto):
                yield number
                await anyio.sleep(pause)
        finally:
            running -= 1


SCHEMA = strawberry.Schema(Query, subscription=Subscription)
