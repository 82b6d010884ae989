"""The tests of servers, and their variants: ``python -m tests.support.catalog`` lists them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["collected"]

ROOT = Path(__file__).parents[2]

Entry = tuple[str, str, str]
"""``file.py::test_name``, the same with its parameters, and its variant."""


@functools.cache
def collected() -> list[Entry]:
    """Every test that has a variant, even if this run selects only a few of them."""
    command = [sys.executable, "-m", "tests.support.catalog"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    return [(name, full, variant) for name, full, variant in json.loads(output)]


class Catalog:
    """Records what pytest collects."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record all tests that are selected."""
        from tests.conftest import names_of, variant_of

        for item in session.items:
            variant = variant_of(item)
            if variant is not None:
                self.entries.append((*names_of(item), str(variant)))


if __name__ == "__main__":
    catalog = Catalog()
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "tests/servers"], plugins=[catalog])
    if status:
        sys.exit(output.getvalue())
    print(json.dumps(catalog.entries))
