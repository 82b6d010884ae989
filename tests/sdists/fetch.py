"""Fetches a source distribution by pip, once, and unpacks it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

__all__ = ["fetched"]


def fetched(cache: Path, name: str, version: str) -> Path:
    """The unpacked source distribution of a package.

    Args:
        cache: directory that outlives a run.
        name: of the package.
        version: exactly.

    Raises:
        AssertionError: pip could not get it.
    """
    folder = cache / f"{name.replace('-', '_')}-{version}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
        pip = subprocess.run([*command, "-d", str(cache), f"{name}=={version}"], capture_output=True, text=True)
        assert pip.returncode == 0, f"pip could not get the sources of {name} {version}:\n{pip.stderr[-2000:]}"
        with tarfile.open(cache / f"{folder.name}.tar.gz") as archive:
            archive.extractall(cache, filter="data")
    return folder
