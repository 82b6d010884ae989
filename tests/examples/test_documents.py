"""The documents are correct: their code runs, their tables are complete, and their links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient, WebSocketDenialResponse

import wsstab
from tests.support.waiting import eventually
from wsstab import WebSocketConfig, WebSocketConnectionManager, WebSocketStabilizer
from wsstab.close import CLOSES, Cause
from wsstab.config.config import CHECKS, GROUPS, NEED_THE_MIDDLEWARE, PER_CONNECTION
from wsstab.config.environment import variables
from wsstab.wires.observers import OBSERVERS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / name for name in ("README.md", "docs/configuration.md", "docs/deployment.md")]
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def blocks() -> list[str]:
    """All blocks of Python in the documents."""
    return [code for document in DOCUMENTS for code in CODE.findall(document.read_text())]


def default_of(field: Any) -> Any:
    """The default of a dataclass field."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def manager_of(app: FastAPI) -> WebSocketConnectionManager:
    """The manager of the middleware around an application."""
    layer: Any = app.middleware_stack
    while not isinstance(layer, WebSocketStabilizer):
        layer = layer.app
    return layer.manager


def test_the_first_example_of_the_readme_runs() -> None:
    """Two people talk in the lobby, and an endpoint notifies them."""
    names: dict[str, Any] = {}
    exec(blocks()[0], names)
    cookies = {user: {"cookie": f"session={secret}"} for secret, user in names["SESSIONS"].items()}
    with (
        TestClient(names["app"]) as client,
        client.websocket_connect("/ws", headers=cookies["ann"]) as ann,
        client.websocket_connect("/ws", headers=cookies["bob"]) as bob,
    ):
        for user, socket in (("ann", ann), ("bob", bob)):
            assert client.post(f"/notify/{user}", headers=cookies["ann"]).json() == {"sent": True}
            assert socket.receive_json() == {"hello": user}
        manager = manager_of(names["app"])
        # A socket is accepted before it is in its room.
        eventually(lambda: sorted(manager.get_room_members("lobby")) == ["ann", "bob"])
        bob.send_text("hello")
        assert ann.receive_json() == {"from": "bob", "text": "hello"}
        assert client.post("/notify/nobody", headers=cookies["ann"]).json() == {"sent": False}


@pytest.mark.parametrize("cookie", ["", "session=", "session=ann", "session=7f3", "user=7f3a", "session=7f3a2"])
@pytest.mark.parametrize("path", ["/ws", "/ws/ann"])
def test_the_first_example_refuses_clients_without_a_valid_session(path: str, cookie: str) -> None:
    """Such a client cannot take over another one's connection or send to it."""
    names: dict[str, Any] = {}
    exec(blocks()[0], names)
    headers = {"cookie": cookie} if cookie else {}
    session = {"cookie": "session=7f3a"}
    with TestClient(names["app"]) as client, client.websocket_connect("/ws", headers=session) as ann:
        with pytest.raises(WebSocketDenialResponse) as denial, client.websocket_connect(path, headers=headers):
            pass
        assert denial.value.status_code == 403
        assert client.post("/notify/ann", headers=headers).status_code == 403
        assert client.post("/notify/ann", headers={"cookie": "session=91c5"}).json() == {"sent": True}
        assert ann.receive_json() == {"hello": "ann"}


@pytest.mark.parametrize("code", blocks())
def test_every_block_of_python_parses_and_imports_only_exported_names(code: str) -> None:
    """Names from ``wsstab`` are compared with its ``__all__``."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "wsstab":
            assert {name.name for name in node.names} <= set(wsstab.__all__)


def test_every_option_has_a_row_with_its_default() -> None:
    """The tables of the configuration show the default as Python writes it."""
    text = (ROOT / "docs/configuration.md").read_text()
    shown = dict(re.findall(r"^\| `(\w+)`(?: ●)? \| `([^`]+)` \|", text, re.MULTILINE))
    for field in fields(WebSocketConfig):
        assert eval(shown[field.name], vars(wsstab) | {"timedelta": timedelta}) == default_of(field), field.name


def test_exactly_the_options_that_can_differ_by_path_are_marked() -> None:
    """They are the options that `Override` takes."""
    text = (ROOT / "docs/configuration.md").read_text()
    marked = set(re.findall(r"^\| `(\w+)` ●", text, re.MULTILINE))
    assert marked == set(PER_CONNECTION)


@pytest.mark.parametrize("group", GROUPS.values())
def test_every_field_of_a_group_has_a_row_with_its_default(group: type[Any]) -> None:
    """A field without a default has an empty cell."""
    text = (ROOT / "docs/configuration.md").read_text()
    for field in fields(group):
        row = re.search(rf"^\| `{group.__name__}\.{field.name}` \|(?: `([^`]+)`)? \|", text, re.MULTILINE)
        assert row is not None, field.name
        assert (row[1] is None) == (field.default is MISSING)
        assert row[1] is None or ast.literal_eval(row[1]) == field.default


def test_the_documented_environment_variables_are_the_existing_ones() -> None:
    """The tables have all of them, and no other document names one that does not exist."""
    known = variables(CHECKS, GROUPS)
    rows = re.findall(r"\| `([A-Z_]+)`(?: \(\w+\))? \|$", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)
    assert set(rows) == {name for name, variable in known.items() if not variable.group}
    for document in DOCUMENTS:
        shown = re.findall(r"WSSTAB_([A-Z]+(?:_[A-Z]+)*)(?![A-Z_…])", document.read_text())
        assert set(shown) <= set(known)


def test_every_close_has_a_row_with_its_answer_before_accept() -> None:
    """The row shows code, reason, whether to reconnect, and the HTTP response if the handshake can be refused."""
    text = (ROOT / "docs/configuration.md").read_text()
    rows = re.findall(r"^\| (\d{4}) \| ([^|]+) \| ([^|]+) \| ([^|]*)\|", text, re.MULTILINE)
    for close in (each for each in CLOSES.values() if each.cause is Cause.STABILIZER):
        [row] = [row for row in rows if row[0] == str(int(close.code)) and row[1].startswith(close.reason)]
        assert row[2].strip("*") == ("yes" if close.reconnect else "no")
        assert not row[3] or row[3].startswith(str(close.status))
        assert "Retry-After" not in row[3] or f"`Retry-After: {close.retry_after}`" in row[3]


def headings(document: Path) -> set[str]:
    """The anchors that Markdown gives to the headings of a document."""
    found = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_every_link_leads_to_an_existing_file_and_heading(document: Path) -> None:
    """Links to other sites are not checked."""
    for target in LINK.findall(document.read_text()):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        place = document.parent / name if name else document
        assert place.exists(), target
        assert not heading or heading in headings(place), target


def test_every_page_is_linked_from_the_readme() -> None:
    """A reader would not look into the folder."""
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"](docs/{page.name}" not in text] == []


def rows_of(title: str) -> str:
    """The part of the README under this heading."""
    text = (ROOT / "README.md").read_text()
    return re.split(r"^##+ ", text.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize(("title", "root"), [("Manager and connection", Exception), ("Events", wsstab.Event)])
def test_the_readme_names_all_exported_errors_and_events(title: str, root: type) -> None:
    """Each kind has a chapter of its own."""
    kinds = {name for name in wsstab.__all__ if is_kind(getattr(wsstab, name), root)} - {"Event"}
    assert len(kinds) > 8
    assert kinds - set(re.findall(r"\w+", rows_of(title))) == set()


def is_kind(thing: object, root: type) -> bool:
    """Whether this is a class derived from ``root``."""
    return isinstance(thing, type) and issubclass(thing, root)


@pytest.mark.parametrize("kind", [wsstab.WebSocketConnectionManager, wsstab.Connection])
def test_the_methods_and_attributes_in_the_readme_exist(kind: type) -> None:
    """Those with ``await`` are coroutine functions, and no others."""
    table = rows_of("Manager and connection").partition(f"\n| `{kind.__name__}` |")[2].partition("\n\n")[0]
    cells = [row.split(" | ")[0] for row in table.splitlines()[2:]]
    named = [(bool(awaited), name) for cell in cells for awaited, name in re.findall(r"`(await )?(\w+)", cell)]
    assert len(named) > 10
    for awaited, name in named:
        assert hasattr(kind, name), name
        assert awaited == inspect.iscoroutinefunction(inspect.getattr_static(kind, name)), name


def test_the_readme_names_all_options_that_need_the_middleware() -> None:
    """The chapter on moving says where a changed import is not enough."""
    chapter = rows_of("Moving from fastapi-websocket-stabilizer")
    assert [name for name in sorted(NEED_THE_MIDDLEWARE) if f"`{name}`" not in chapter] == []


def test_every_exported_name_is_in_a_document() -> None:
    """In any page but the changelog."""
    text = " ".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
    assert [name for name in wsstab.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_the_readme_names_all_known_observers() -> None:
    """It also says what users of other middleware can do."""
    chapter = rows_of("Beside other middleware").lower()
    assert [each.package for each in OBSERVERS if each.package not in chapter] == []
    assert "--ws wsstab.wires.uvicorn:Protocol".lower() in chapter
    assert "app = WebSocketStabilizer(app)".lower() in chapter


def test_the_ten_invariants_are_numbered() -> None:
    """Contributors refer to them by number."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE) == [str(number) for number in range(1, 11)]
