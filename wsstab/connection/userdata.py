"""User data: the values that an application keeps with a connection, and their size in bytes.

Users get a read-only view. Only the hub writes, because it counts the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..core.memory import MAX_OBJECTS, Estimate, estimate

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
        """Bytes that setting a value would add, and the estimated bytes of key and value."""
        size = estimate(key) + estimate(value)
        return size - self._sizes.get(key, 0), size

    def set(self, key: str, value: object, size: int) -> None:
        """Set a value of this estimated size, in bytes."""
        self.size += size - self._sizes.get(key, 0)
        self._values[key] = value
        self._sizes[key] = size

    def recount(self) -> int:
        """Estimate all values again, since they may have changed in place; returns the growth in bytes."""
        return sum(self.recounting(MAX_OBJECTS))

    def recounting(self, references: int) -> Iterator[int]:
        """`recount`, a little at a time.

        A value that is set meanwhile has just been estimated, and is left alone.

        Args:
            references: references to follow between two yields.

        Yields:
            The growth that was found, in bytes; mostly 0.
        """
        # A copy, because the application may set values between two steps.
        for key, value in list(self._values.items()):
            whole = Estimate(value)
            while not whole.advance(references):
                yield 0
            if self._values.get(key) is value:
                growth = estimate(key) + whole.size - self._sizes[key]
                self._sizes[key] += growth
                self.size += growth
                yield growth
