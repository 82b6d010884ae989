"""What an application keeps with a connection, with its size in bytes.

To users it is a read-only view; only the manager writes, because it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .core.memory import estimate

__all__ = ["UserData"]


class UserData(Mapping[str, Any]):
    """Values by key.

    Attributes:
        size: estimated bytes of all keys and values, see `wsstab.core.memory.estimate`.
    """

    __slots__ = ("_sizes", "_values", "size")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self.size = 0

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<UserData [{len(self)} values, {self.size} bytes]>"

    def growth(self, key: str, value: object) -> tuple[int, int]:
        """What setting this would add, and the estimate of key and value, in bytes."""
        size = estimate(key) + estimate(value)
        return size - self._sizes.get(key, 0), size

    def set(self, key: str, value: object, size: int) -> None:
        """Keep a value of this estimated size."""
        self.size += size - self._sizes.get(key, 0)
        self._values[key] = value
        self._sizes[key] = size

    def recount(self) -> int:
        """Estimate everything again, since values may have changed in place; how much larger it is now."""
        before = self.size
        self._sizes = {key: estimate(key) + estimate(value) for key, value in self._values.items()}
        self.size = sum(self._sizes.values())
        return self.size - before
