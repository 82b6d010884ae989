"""Tests in the source distributions of other packages: those that pass without this package pass with it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.sdists.fetch import fetched

ROOT = Path(__file__).parents[2]
MODELS = "imports the private module _models"
SHARDS = "looks into the private attribute _shards"
PRIVATE: dict[str, str] = {
    "TestConnectionShard::test_should_create_shard_with_empty_connections": MODELS,
    "TestConnectionShard::test_should_create_shard_with_lock": MODELS,
    "TestConnectionMetadataMemory::test_should_estimate_connection_memory_size": MODELS,
    "TestSharding::test_should_distribute_connections_across_shards": SHARDS,
    "TestSharding::test_should_maintain_correct_count_with_sharding": SHARDS,
    "TestSharding::test_should_allow_concurrent_operations_on_different_shards": SHARDS,
    "TestSharding::test_should_broadcast_to_all_shards": SHARDS,
    "TestSharding::test_should_work_with_single_shard": SHARDS,
    "TestSharding::test_should_disconnect_from_correct_shard": SHARDS,
}
"""Tests of the published package that use what it does not publish, with the reason."""


@pytest.fixture(scope="module")
def cache(request: pytest.FixtureRequest) -> Path:
    """A directory that outlives the run."""
    return Path(request.config.rootpath) / ".pytest_cache" / "sdists"


def passing(folder: Path, tests: str, mode: str, report: Path, *paths: str) -> set[str]:
    """Run the tests in this mode, and return those that pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "plugin", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(folder), "-c", os.devnull, f"--junitxml={report}", tests]
    where = os.pathsep.join([*paths, str(Path(__file__).parent), str(ROOT)])
    environment = os.environ | {"SDIST_MODE": mode, "PYTHONPATH": where, "PYTEST_ADDOPTS": ""}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert report.exists(), run.stdout + run.stderr
    cases = ElementTree.parse(report).iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}" for case in cases if len(case) == 0}


def test_the_tests_of_the_published_package_pass(cache: Path, tmp_path: Path) -> None:
    """Only those in `PRIVATE`, which look inside the package, may fail."""
    folder = fetched(cache, "fastapi-websocket-stabilizer", "1.1.0")
    bare = passing(folder, "tests", "", tmp_path / "bare.xml", str(folder / "src"))
    ours = passing(folder, "tests", "renamed", tmp_path / "ours.xml")
    assert len(bare) == 62
    assert bare - ours == {f"tests.test_manager.{name}" for name in PRIVATE}


def test_starlette_s_tests_of_websockets_pass(cache: Path, tmp_path: Path) -> None:
    """Each application of these tests runs behind the middleware."""
    folder = fetched(cache, "starlette", version("starlette"))
    bare = passing(folder, "tests/test_websockets.py", "", tmp_path / "bare.xml", str(folder))
    ours = passing(folder, "tests/test_websockets.py", "wrapped", tmp_path / "ours.xml", str(folder))
    assert len(bare) > 60
    assert bare - ours == set()
