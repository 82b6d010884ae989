"""The options that a test gave to the server it started."""

from __future__ import annotations

import json
import os
from typing import Any

from .options import decode

__all__ = ["stabilizer_options"]


def stabilizer_options() -> dict[str, Any]:
    """Keyword arguments for ``WebSocketStabilizer``."""
    return decode(json.loads(os.environ.get("WSSTAB_TEST_OPTIONS", "{}")))
