"""The tests mirror the package: each module of these folders has a test file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

import wsstab

PACKAGE = Path(wsstab.__file__).parent
TESTS = Path(__file__).parent

FOLDERS = [
    "core",
    "config",
    "routes",
    "loop",
    "wires",
    "wires/uvicorn",
    "wires/hypercorn",
    "connection",
    "hub",
    "client",
]
PROTOCOLS = {"loop/members"}
"""Modules without code to run."""


def modules(folder: str) -> list[str]:
    """The modules of a folder."""
    return sorted(path.stem for path in (PACKAGE / folder).glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_module_has_its_test_file(folder: str) -> None:
    """``core/wheel.py`` is tested by ``tests/core/test_wheel.py``."""
    names = [name for name in modules(folder) if f"{folder}/{name}" not in PROTOCOLS]
    assert names
    assert [name for name in names if not (TESTS / folder / f"test_{name}.py").exists()] == []


def test_each_test_file_in_core_has_its_module() -> None:
    """No test file outlives the module that it tests."""
    tested = sorted(path.stem.removeprefix("test_") for path in (TESTS / "core").glob("test_*.py"))
    assert tested == modules("core")


@pytest.mark.parametrize("name", modules("core"))
def test_each_test_file_in_core_imports_its_module(name: str) -> None:
    """A test file with the right name could still test something else."""
    assert f"from wsstab.core.{name} import" in (TESTS / "core" / f"test_{name}.py").read_text()
