"""Terms: the guards of several configurations, combined into one set."""

from __future__ import annotations

from wsstab import WebSocketConfig
from wsstab.routes.terms import Terms
from wsstab.types import Scope


async def one(scope: Scope) -> bool:
    """A guard."""
    return True


async def two(scope: Scope) -> bool:
    """Another guard."""
    return True


def test_the_terms_of_a_configuration_contain_its_guards() -> None:
    """A configuration without ``authorize`` has no such guard."""
    config = WebSocketConfig(allowed_origins=["a.example"])
    assert Terms.of(config) == Terms(config, (("a.example",),), ())
    assert Terms.of(WebSocketConfig(authorize=one))[1:] == (("same-host",), (one,))


def test_terms_can_be_compared_and_joined() -> None:
    """Each guard is contained once."""
    config = WebSocketConfig()
    mine, more = Terms(config, ("*",), (one,)), Terms(config, ("same-host", "*"), (one, two))
    assert more.without(mine) == Terms(config, ("same-host",), (two,))
    assert mine.joined(more) == Terms(config, ("*", "same-host"), (one, two))
