"""What is published: a source distribution that can be tested, and a description that leads nowhere false."""

from __future__ import annotations

import ast
import re
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from hatch_build import without_links_to_files

ROOT = Path(__file__).parents[1]
FOLDERS = ("wsstab", "tests", "examples", "benchmarks", "docs", ".ci")
LEFT_OUT = {"__pycache__", "node_modules", "package-lock.json"}
"""What others made, as in ``.gitignore``."""
TARGET = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made and unpacked."""
    place = tmp_path_factory.mktemp("sdist")
    (made,) = SdistBuilder(str(ROOT)).build(directory=str(place))
    with tarfile.open(made) as archive:
        archive.extractall(place, filter="data")
    return place / Path(made).name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, made and open."""
    (made,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    with zipfile.ZipFile(made) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """What the package index knows."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_string(wheel.read(name).decode())


@pytest.fixture(scope="module")
def description(metadata: Message) -> str:
    """What it shows."""
    assert metadata["Description-Content-Type"] == "text/markdown"
    return str(metadata.get_payload())


def files(root: Path) -> set[str]:
    """All files of the project's folders, by their names from ``root``."""
    found = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)) for path in found if not LEFT_OUT & set(path.parts) and path.suffix != ".pyc"}


def imported(program: Path) -> set[str]:
    """The modules that a program imports absolutely, and what it imports from them."""
    names = set[str]()
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            names.add(node.module)
    return names


def test_the_source_distribution_has_every_file_of_the_folders(unpacked: Path) -> None:
    """Data of tests too, and what a contributor runs."""
    assert files(ROOT) - files(unpacked) == set()
    assert "benchmarks/plan.py" in files(unpacked)


def test_what_its_programs_import_of_the_project_is_in_it(unpacked: Path) -> None:
    """Tests of benchmarks need the benchmarks."""
    ours = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix == ".py" or path.name in FOLDERS}
    missing = set[str]()
    for program in [unpacked / name for name in files(unpacked) if name.endswith(".py")]:
        for name in imported(program):
            place = unpacked.joinpath(*name.split("."))
            if name.partition(".")[0] in ours and not place.is_dir() and not place.with_suffix(".py").is_file():
                missing.add(name)
    assert missing == set()


def test_the_files_beside_the_folders_are_in_it(unpacked: Path) -> None:
    """Those that documents link to, that tests read and that `make` needs."""
    needed = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "pyproject.toml", "hatch_build.py"}
    assert needed - {path.name for path in unpacked.iterdir()} == set()


def test_a_wheel_of_the_source_distribution_is_the_same(unpacked: Path, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Index and installers make it from there."""
    (made,) = WheelBuilder(str(unpacked)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(made) as again:
        assert set(again.namelist()) == set(wheel.namelist())
    assert {name.partition("/")[0] for name in wheel.namelist()} <= {"wsstab", wheel.namelist()[-1].partition("/")[0]}
    assert "wsstab/py.typed" in wheel.namelist()


def test_the_description_has_no_link_that_an_index_cannot_follow(description: str) -> None:
    """Files are named, pictures too; what leads to a heading of the same page stays."""
    targets = TARGET.findall(description)
    assert [target for target in targets if not target.startswith(("#", "https://"))] == []
    assert "#configuration" in targets
    assert "docs/configuration.md" in description
    assert "<img" not in description


def test_its_links_within_the_page_lead_to_headings(description: str) -> None:
    """By the names that Markdown gives to headings."""
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", description, re.MULTILINE)
    }
    assert {target[1:] for target in TARGET.findall(description) if target.startswith("#")} <= headings


def test_every_extra_is_in_the_table_of_the_readme(metadata: Message, description: str) -> None:
    """With what it brings."""
    table = description.partition("| Extra | Brings |")[2].partition("\n\n")[0]
    assert set(metadata.get_all("Provides-Extra", [])) == set(
        re.findall(r"`(\w+)`(?=[^|]*\|[^|]*\|$)", table, re.MULTILINE)
    )


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("see [docs/a.md](docs/a.md#b)", "see docs/a.md"),
        ("[how](docs/a.md#b), [here](#c), [there](https://example.com/d.md)", None),
        ("![bars](docs/a.svg)", "bars (`docs/a.svg`)"),
        ("`x[0](y)`", "`x[0](y)`"),
        ("[`a.py`](examples/a.py)", "`a.py` (`examples/a.py`)"),
        ("```\nx[0](y)\n```\n[z](z)", "```\nx[0](y)\n```\nz"),
    ],
)
def test_a_link_to_a_file_becomes_its_name(markdown: str, shown: str | None) -> None:
    """Code stays as it is, and so do links that work anywhere."""
    expected = "how (`docs/a.md`), [here](#c), [there](https://example.com/d.md)" if shown is None else shown
    assert without_links_to_files(markdown) == expected
