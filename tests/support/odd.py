"""Other people's objects of the odd kinds."""

from __future__ import annotations

from typing import Any


class LocalProxy:
    """Stands for an object of a context that there is not, as werkzeug's: nothing of it can be asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("working outside of the context")

    def __call__(self) -> None:
        """Not reached."""
