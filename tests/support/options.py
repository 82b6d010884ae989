"""Options of a stabilizer as JSON, so that a test can hand them to a server's process.

Groups are objects (``{"outbound": {"policy": "latest"}}``), and what is not
data is given by name: ``"@module:attribute"``.
"""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import Any

from wsstab import Drain, Hooks, Inbound, Outbound, Override, RateLimit

__all__ = ["decode", "load"]

GROUPS: dict[str, Any] = {
    "inbound": Inbound,
    "outbound": Outbound,
    "rate_limit": RateLimit,
    "drain": Drain,
    "hooks": Hooks,
}


def decode(options: dict[str, Any]) -> dict[str, Any]:
    """The options as keyword arguments of ``WebSocketStabilizer``."""
    return {name: decode_field(name, value) for name, value in options.items()}


def decode_field(name: str, value: Any) -> Any:
    """The value of one option."""
    if name in GROUPS and isinstance(value, dict):
        return GROUPS[name](**decode(value))
    if name == "routes":
        return {pattern: Override(**decode(fields)) for pattern, fields in value.items()}
    if name == "reconnect_token_ttl":
        return timedelta(seconds=value)
    return load(value[1:]) if isinstance(value, str) and value.startswith("@") else value


def load(name: str) -> Any:
    """The object that ``module:attribute`` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
