"""Unusual objects, as other libraries have them."""

from __future__ import annotations

from typing import Any


class LocalProxy:
    """A proxy like werkzeug's, outside of its context: every access to an attribute raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("working outside of the context")

    def __call__(self) -> None:
        """Never called."""
