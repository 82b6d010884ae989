"""The published package: a source distribution that can be tested, and a description without broken links."""

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
"""Files that tools generate, as in ``.gitignore``."""
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
    """The metadata of the wheel, which the package index reads."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_string(wheel.read(name).decode())


@pytest.fixture(scope="module")
def description(metadata: Message) -> str:
    """The description that the package index shows."""
    assert metadata["Description-Content-Type"] == "text/markdown"
    return str(metadata.get_payload())


def files(root: Path) -> set[str]:
    """All files of the project's folders, by their names from ``root``."""
    found = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)) for path in found if not LEFT_OUT & set(path.parts) and path.suffix != ".pyc"}


def imported(program: Path) -> set[str]:
    """The modules that a program imports by absolute imports."""
    names = set[str]()
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            names.add(node.module)
    return names


def test_the_source_distribution_has_every_file_of_the_project_folders(unpacked: Path) -> None:
    """The data files of tests, and the benchmarks, too."""
    assert files(ROOT) - files(unpacked) == set()
    assert "benchmarks/plan.py" in files(unpacked)


def test_every_project_import_in_the_source_distribution_resolves(unpacked: Path) -> None:
    """The tests of the benchmarks, for example, need the benchmarks."""
    ours = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix == ".py" or path.name in FOLDERS}
    missing = set[str]()
    for program in [unpacked / name for name in files(unpacked) if name.endswith(".py")]:
        for name in imported(program):
            place = unpacked.joinpath(*name.split("."))
            if name.partition(".")[0] in ours and not place.is_dir() and not place.with_suffix(".py").is_file():
                missing.add(name)
    assert missing == set()


def test_the_source_distribution_has_the_files_of_the_root(unpacked: Path) -> None:
    """Documents link to them, tests read them, and `make` needs them."""
    needed = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "pyproject.toml", "hatch_build.py"}
    assert needed - {path.name for path in unpacked.iterdir()} == set()


def test_a_wheel_built_from_the_source_distribution_has_the_same_files(
    unpacked: Path, wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    """Installers may build the wheel from the source distribution."""
    (made,) = WheelBuilder(str(unpacked)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(made) as again:
        assert set(again.namelist()) == set(wheel.namelist())
    assert {name.partition("/")[0] for name in wheel.namelist()} <= {"wsstab", wheel.namelist()[-1].partition("/")[0]}
    assert "wsstab/py.typed" in wheel.namelist()


def test_the_wheel_has_the_test_vectors_of_the_protocol(wheel: zipfile.ZipFile) -> None:
    """Other clients run them, so they come with the package."""
    folder = "wsstab/client/vectors/"
    packed = {name.removeprefix(folder): wheel.read(name) for name in wheel.namelist() if name.startswith(folder)}
    assert packed == {path.name: path.read_bytes() for path in (ROOT / folder).iterdir()}
    assert set(packed) == {"README.md", "client.json", "messages.json", "server.json"}


def test_the_description_has_no_link_that_an_index_cannot_follow(description: str) -> None:
    """Links to files become names, pictures too; links to headings of the same page stay."""
    targets = TARGET.findall(description)
    assert [target for target in targets if not target.startswith(("#", "https://"))] == []
    assert "#configuration" in targets
    assert "docs/configuration.md" in description
    assert "<img" not in description


def test_links_within_the_description_lead_to_its_headings(description: str) -> None:
    """Targets follow the names that Markdown gives to headings."""
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", description, re.MULTILINE)
    }
    assert {target[1:] for target in TARGET.findall(description) if target.startswith("#")} <= headings


def test_every_extra_is_in_the_table_of_the_readme(metadata: Message, description: str) -> None:
    """The table says what each extra installs."""
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
