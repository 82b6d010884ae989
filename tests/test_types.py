"""The type checker of a user accepts the code that the documents show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/configuration.md", "docs/deployment.md", "docs/servers.md")
CODE = re.compile(r"^ *```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PRELUDE = """\
from fastapi import FastAPI
from starlette.routing import Route
from wsstab import Override, WebSocketConfig, WebSocketConnectionManager, WebSocketStabilizer

app = FastAPI()
manager = WebSocketConnectionManager()
ws_manager = manager
"""
"""The names that a code block of a single line needs."""


def test_the_code_of_the_documents_passes_mypy(tmp_path: Path) -> None:
    """Each block is checked by itself, and unannotated functions are checked too."""
    programs = list[str]()
    for document in DOCUMENTS:
        for number, code in enumerate(CODE.findall((ROOT / document).read_text())):
            program = tmp_path / f"{Path(document).stem.lower()}_{number}.py"
            indent = len(code) - len(code.lstrip(" "))
            program.write_text(PRELUDE + re.sub(rf"^ {{{indent}}}", "", code, flags=re.MULTILINE))
            programs.append(str(program))
    assert len(programs) > 6
    command = [sys.executable, "-m", "mypy", "--config-file=", "--check-untyped-defs", "--cache-dir", str(tmp_path)]
    checked = subprocess.run([*command, *programs], capture_output=True, text=True, cwd=ROOT, check=False)
    assert checked.returncode == 0, checked.stdout
