"""Writes what a run showed about the compositions: ``pytest --composition=FILE``.

As with the servers, each composition at each place has one cell for each server: ``holds``, ``partly`` or
``lacks`` with the reasons, ``never`` with the reason where it does not run there by itself, ``failed``, ``missing``.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from tests.composition.rows import ROWS, SERVERS, Row
from tests.support.recorder import SERVERS as PACKAGES
from tests.support.recorder import Recorder, cell_of

__all__ = ["CompositionRecorder", "keys"]


def keys() -> dict[str, tuple[Row, str]]:
    """Each composition at each of its places."""
    return {f"{row.name} {place}": (row, place) for row in ROWS for place in row.places}


class CompositionRecorder(Recorder):
    """Collects the outcomes of a run, by composition, place and server."""

    fact = "composition"

    def result(self) -> dict[str, Any]:
        """The result that is written."""
        packages = dict.fromkeys([*PACKAGES, *(package for row in ROWS for package in row.packages)])
        return {
            "python": platform.python_version(),
            "versions": {name: version(name) for name in packages},
            "rows": {key: self._cells(key, row) for key, (row, _) in keys().items()},
        }

    def _cells(self, key: str, row: Row) -> dict[str, list[str]]:
        return {
            str(variant): cell_of(list(self.outcomes[key, str(variant)].values()))
            if row.reason_against(variant) is None
            else ["never", str(row.reason_against(variant))]
            for variant in SERVERS
        }
