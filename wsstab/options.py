"""Alias of `wsstab.config.groups`, kept for programs that import option groups under this name."""

from __future__ import annotations

from .config.groups import *  # noqa: F403
from .config.groups import __all__ as __all__
