"""The tests mirror the package: each machine has the file that covers it by itself."""

from __future__ import annotations

from pathlib import Path

import wsstab

MACHINES = Path(wsstab.__file__).parent / "core"
TESTS = Path(__file__).parent / "core"


def test_each_machine_has_its_test_file_and_each_file_its_machine() -> None:
    """``core/wheel.py`` is tested by ``tests/core/test_wheel.py``."""
    machines = sorted(path.stem for path in MACHINES.glob("*.py") if path.stem != "__init__")
    tested = sorted(path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py"))
    assert machines
    assert tested == machines


def test_each_test_file_of_a_machine_is_about_it() -> None:
    """It imports that machine."""
    strangers = [
        path.name
        for path in TESTS.glob("test_*.py")
        if f"from wsstab.core.{path.stem.removeprefix('test_')} import" not in path.read_text()
    ]
    assert strangers == []
