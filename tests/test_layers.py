"""The floors of the house: an import goes down, never up, and never sideways within ``core/``.

What a function imports counts, and what is imported for type checkers alone counts as well.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import wsstab

PACKAGE = Path(wsstab.__file__).parent


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


FLOORS = {
    "0 words": "types close errors events reports wording payload levels notices",
    "1 machines": "core core.address core.deadlines core.frames core.histogram core.inbox core.lifecycle core.limits "
    "core.memory core.networks core.origin core.patterns core.queue core.registry core.sites core.token core.wheel",
    "2 configuration": "config config.callables config.check config.checks config.config config.environment "
    "config.groups config.marks routes.terms routes options",
    "3 ports": "loop loop.usercode loop.tasks loop.timekeeper wires wires.asgi wires.base wires.daphne wires.deflate "
    "wires.standalone wires.departure wires.granian wires.hypercorn wires.hypercorn.http1 wires.hypercorn.peer "
    "wires.hypercorn.shield wires.hypercorn.stream wires.lean wires.observers wires.tcp wires.traits wires.transport "
    "wires.uvicorn wires.uvicorn.base wires.uvicorn.legacy wires.uvicorn.protocol wires.uvicorn.sansio "
    "wires.uvicorn.wsproto wires.wsproto signals signals.base signals.daphne signals.granian signals.hypercorn "
    "signals.loop signals.uvicorn",
    "4 services": "loop.services loop.backpressure loop.turn_log loop.members loop.readahead loop.lingering",
    "5 connection": "connection connection.base connection.carrier connection.closing connection.connection "
    "connection.handler connection.heartbeat connection.outcome connection.peer connection.receiver connection.sender "
    "connection.standalone connection.userdata",
    "6 hub": "routes.route_map routes.routing hub hub.connecting hub.counters hub.delivery hub.door hub.doubles "
    "hub.drain hub.drain_endpoint hub.eviction hub.hub hub.loops hub.names hub.opening hub.plain hub.probing hub.rooms "
    "hub.scopes hub.second_look hub.serving hub.subscribers hub.tokens hub.unfinished",
    "7 manager": "manager",
    "8 edge": "middleware exporters exporters.logs __init__",
}
"""Every module of the package, from the bottom to the top."""

THIRD_PARTIES = {
    "anyio": "everywhere above core",
    "itsdangerous": "core.token",
    "starlette": "middleware connection.outcome routes.route_map hub.scopes",
    "h2": "wires.hypercorn.stream",
    "hypercorn": "signals.hypercorn wires.hypercorn.stream",
    "trio": "loop.tasks signals.hypercorn",
    "uvicorn": "wires.uvicorn.protocol",
    "wsproto": "wires.hypercorn.peer wires.hypercorn.stream wires.wsproto",
}
"""Who else may be imported, and by whom."""

MACHINES_OF_MACHINES = {"core.address": {"core.networks"}, "core.origin": {"core.sites"}}
"""The machines that a machine is made of."""

MACHINES_DO_WITHOUT = {"asyncio", "anyio", "trio", "threading", "time", "datetime", "logging", "random", "socket"}
"""The loop, the clock, the log and chance are arguments or somebody else's business."""

PARTS = words("base carrier sender heartbeat receiver closing peer handler outcome connection standalone")
"""Of a connection: each imports those before it."""

BESIDE_THE_FACE = {"hub.opening": {"connection.carrier"}, "hub.unfinished": {"connection.receiver"}}
"""The parts of a connection that somebody outside of it uses."""

FOLDERS = ["words", "core", "config", "routes", "loop", "wires", "signals", "connection", "hub", "edge"]
"""From the bottom to the top."""
FLOOR_OF = {module: floor for floor, names in enumerate(FLOORS.values()) for module in names.split()}


def modules() -> list[str]:
    """The modules of the package, by their name inside it."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [name_of(path) for path in paths]


def name_of(path: Path) -> str:
    """``core/wheel.py`` is ``core.wheel``, ``core/__init__.py`` is ``core``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def folder(module: str) -> str:
    """Of a module; ``words`` or ``edge`` for those in the root."""
    first = module.partition(".")[0]
    return first if first in FOLDERS else "words" if FLOOR_OF[module] == 0 else "edge"


def path_of(module: str) -> Path:
    """Where a module stands."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def statements(nodes: Iterable[ast.AST], typed: bool = False) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports in trees.

    Args:
        nodes: the trees.
        typed: with those for type checkers.
    """
    for node in nodes:
        if not typed and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from statements(node.orelse)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            yield from statements(ast.iter_child_nodes(node), typed)


def imports(module: str, source: str | None = None, typed: bool = False) -> set[str]:
    """What a module imports: ``.name`` for a module of the package, ``name`` for any other."""
    text = path_of(module).read_text() if source is None else source
    found: set[str] = set()
    for statement in statements([ast.parse(text)], typed):
        if isinstance(statement, ast.Import):
            found.update(outside(alias.name) for alias in statement.names)
        elif not statement.level:
            found.add(outside(statement.module or ""))
        else:
            found.update(inside(module, statement))
    return found


def outside(name: str) -> str:
    """The package that a full name is from; a full name of our own counts as inside."""
    first, _, rest = name.partition(".")
    return f".{rest or '__init__'}" if first == PACKAGE.name else first


def inside(module: str, statement: ast.ImportFrom) -> Iterator[str]:
    """The modules that a relative import names."""
    parts = module.split(".")
    is_package = path_of(module).name == "__init__.py"
    parents = [] if module == "__init__" else parts if is_package else parts[:-1]
    base = parents[: len(parents) - statement.level + 1]
    target = [*base, *(statement.module.split(".") if statement.module else [])]
    for alias in statement.names:
        name = ".".join([*target, alias.name])
        yield f".{name if name in FLOOR_OF else '.'.join(target)}"


def inner(module: str, typed: bool = False, source: str | None = None) -> set[str]:
    """The modules of the package that a module imports."""
    return {name[1:] for name in imports(module, source, typed) if name.startswith(".")}


# What breaks a rule: a set that must be empty. With a source, as if that stood in the module.


def higher(module: str, source: str | None = None) -> set[str]:
    """Imports that go up, to another floor."""
    return {name for name in inner(module, source=source) if FLOOR_OF[name] > FLOOR_OF[module]}


def higher_folders(module: str, source: str | None = None) -> set[str]:
    """Imports that go up, to another folder, those for type checkers included."""
    here = FOLDERS.index(folder(module))
    return {name for name in inner(module, True, source) if FOLDERS.index(folder(name)) > here}


def other_machines(module: str, source: str | None = None) -> set[str]:
    """Machines, and what is above them, of which a machine is not made."""
    return {name for name in inner(module, True, source) if FLOOR_OF[name] > 0} - MACHINES_OF_MACHINES.get(
        module, set()
    )


def loops_clocks_and_logs(module: str, source: str | None = None) -> set[str]:
    """What a machine gets as an argument."""
    return imports(module, source, typed=True) & MACHINES_DO_WITHOUT


def undeclared(module: str, source: str | None = None) -> set[str]:
    """Packages that the table does not let a module import."""
    foreign = {
        name for name in imports(module, source) if not name.startswith(".") and name not in sys.stdlib_module_names
    }
    return foreign - {name for name in THIRD_PARTIES if may_import(module, name)}


def later_parts(module: str, source: str | None = None) -> set[str]:
    """Parts of a connection that stand behind the one that imports them."""
    before = {f"connection.{each}" for each in ["userdata", *PARTS[: PARTS.index(module.partition(".")[2])]]}
    return {name for name in inner(module, True, source) if folder(name) == "connection"} - before


def beside_the_face(module: str, source: str | None = None) -> set[str]:
    """Parts of a connection that are used from outside."""
    parts = {name for name in inner(module, True, source) if name.startswith("connection.")}
    return parts - BESIDE_THE_FACE.get(module, set())


def test_every_module_has_a_floor() -> None:
    """And nothing is in the table that does not exist."""
    named = [module for names in FLOORS.values() for module in names.split()]
    assert sorted(named) == sorted(modules())


@pytest.mark.parametrize("module", modules())
def test_an_import_never_goes_up(module: str) -> None:
    """From its own floor or one below."""
    assert higher(module) == set()


@pytest.mark.parametrize("module", [module for module in modules() if module.startswith("core.")])
def test_a_machine_imports_no_machine_that_it_is_not_made_of(module: str) -> None:
    """Otherwise only words, the standard library, and ``itsdangerous`` where tokens are signed."""
    assert other_machines(module) == set()


@pytest.mark.parametrize("module", [module for module in modules() if module.startswith("core")])
def test_a_machine_knows_neither_loop_nor_clock_nor_log(module: str) -> None:
    """The time is an argument."""
    assert loops_clocks_and_logs(module) == set()


@pytest.mark.parametrize("module", modules())
def test_what_is_below_knows_what_stands_on_it_only_by_protocol(module: str) -> None:
    """Not even for type checkers: a loop does not import its connections, and no machine its user."""
    assert higher_folders(module) == set()


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_is_declared(module: str) -> None:
    """The standard library, and the few packages of the table, each where it belongs."""
    assert undeclared(module) == set()


def may_import(module: str, name: str) -> bool:
    """Whether the table lets a module import a package."""
    where = THIRD_PARTIES[name]
    return FLOOR_OF[module] > 1 if where == "everywhere above core" else module in where.split()


def test_no_imports_run_in_a_circle() -> None:
    """Not for type checkers either: each file can be understood before the next."""
    assert circles({module: inner(module, typed=True) for module in modules()}) == {}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_connection_imports_those_before_it(part: str) -> None:
    """What it asks of those behind it is a Protocol in ``connection/base.py``."""
    assert later_parts(f"connection.{part}") == set()


def test_all_parts_of_a_connection_are_in_order() -> None:
    """A new one has its place in the list."""
    parts = {module.partition(".")[2] for module in modules() if module.startswith("connection.")}
    assert parts - {"userdata"} == set(PARTS)


@pytest.mark.parametrize("module", [module for module in modules() if folder(module) in ("hub", "edge")])
def test_a_connection_is_used_by_its_face(module: str) -> None:
    """What ``connection/__init__.py`` offers, and few modules beside it."""
    assert beside_the_face(module) == set()


def circles(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is left of a graph without all that leads into no circle."""
    graph = {module: names - {module} for module, names in graph.items()}
    while leaves := {module for module, names in graph.items() if not names}:
        graph = {module: names - leaves for module, names in graph.items() if module not in leaves}
    return graph


FOR_CHECKERS = "if TYPE_CHECKING:\n    "


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (higher, "hub.door", "from ..manager import WebSocketConnectionManager"),
        (higher, "core.wheel", "def tick():\n    from ..loop.tasks import current_loop"),
        (higher_folders, "loop.readahead", FOR_CHECKERS + "from ..connection import Peer"),
        (higher_folders, "wires.asgi", FOR_CHECKERS + "from ..hub.hub import Hub"),
        (higher_folders, "hub.hub", FOR_CHECKERS + "from ..exporters.logs import configure_logging"),
        (other_machines, "core.wheel", "from .queue import OutboundQueue"),
        (other_machines, "core.wheel", FOR_CHECKERS + "from ..config import WebSocketConfig"),
        (loops_clocks_and_logs, "core.wheel", "import time"),
        (loops_clocks_and_logs, "core.wheel", "from logging import getLogger"),
        (undeclared, "hub.door", "import redis"),
        (undeclared, "core.wheel", "import anyio"),
        (undeclared, "hub.tokens", "from itsdangerous import Signer"),
        (later_parts, "connection.carrier", "from .sender import Sender"),
        (later_parts, "connection.sender", FOR_CHECKERS + "from .peer import Peer"),
        (later_parts, "connection.base", FOR_CHECKERS + "from .carrier import Carrier"),
        (beside_the_face, "hub.door", "from ..connection.sender import Sender"),
        (beside_the_face, "middleware", FOR_CHECKERS + "from .connection.closing import Closing"),
    ],
)
def test_a_rule_that_is_broken_on_purpose_fails(rule: Callable[[str, str], set[str]], module: str, source: str) -> None:
    """A test of the tests, as if the source stood in the module."""
    assert rule(module, source) != set()


def test_a_circle_on_purpose_is_found() -> None:
    """With those that lead into it; what leads nowhere is not in it."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set[str](), "e": {"a"}}
    assert set(circles(graph)) == {"a", "b", "c", "e"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from .queue import OutboundQueue", {".core.queue"}),
        ("from ..errors import PeerGoneError", {".errors"}),
        ("from .. import events", {".events"}),
        ("from ..wires import base", {".wires.base"}),
        ("from ..core import wheel, queue", {".core.wheel", ".core.queue"}),
        ("import wsstab.manager", {".manager"}),
        ("from wsstab.manager import WebSocketConnectionManager", {".manager"}),
        ("import asyncio.events", {"asyncio"}),
        ("def f():\n    from ..manager import x", {".manager"}),
        ("if TYPE_CHECKING:\n    from ..manager import x", set()),
        ("if typing.TYPE_CHECKING:\n    from ..manager import x\nelse:\n    from ..close import y", {".close"}),
        ("if x:\n    from ..manager import x", {".manager"}),
    ],
)
def test_the_walk_itself_sees_what_is_imported(source: str, expected: set[str]) -> None:
    """A test of the test, as if the source stood in ``core/wheel.py``."""
    assert imports("core.wheel", source) == expected


def test_the_walk_sees_what_is_imported_for_type_checkers_where_it_is_asked_to() -> None:
    """As if the source stood in ``loop/readahead.py``."""
    source = "if TYPE_CHECKING:\n    from ..connection import Connection"
    assert imports("loop.readahead", source) == set()
    assert imports("loop.readahead", source, typed=True) == {".connection"}


def test_the_walk_knows_where_a_package_is() -> None:
    """In an ``__init__.py`` one dot is the package itself."""
    assert imports("signals", "from .base import owner\nfrom ..tasks import x") == {".signals.base", ".tasks"}
    assert imports("__init__", "from .close import Close") == {".close"}
