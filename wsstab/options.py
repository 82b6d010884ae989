"""The options that come in groups, under the name by which programs import them; `wsstab.config.groups` has them."""

from __future__ import annotations

from .config.groups import *  # noqa: F403
from .config.groups import __all__ as __all__
