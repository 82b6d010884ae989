"""Fetches a source distribution with pip, once, and unpacks it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["fetched"]


def fetched(cache: Path, name: str, version: str) -> Path:
    """The unpacked source distribution of a package.

    Args:
        cache: a directory that outlives a run.
        name: the name of the package.
        version: the exact version.

    Raises:
        AssertionError: pip could not get it.
    """
    folder = cache / f"{name.replace('-', '_')}-{version}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Two tests may fetch it at the same time, and one may be interrupted: only a whole folder is moved into place.
        with tempfile.TemporaryDirectory(dir=cache) as place:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
            pip = subprocess.run([*command, "-d", place, f"{name}=={version}"], capture_output=True, text=True)
            assert pip.returncode == 0, f"pip could not get the sources of {name} {version}:\n{pip.stderr[-2000:]}"
            with tarfile.open(Path(place) / f"{folder.name}.tar.gz") as archive:
                archive.extractall(place, filter="data")
            with contextlib.suppress(OSError):
                (Path(place) / folder.name).rename(folder)
    return folder
