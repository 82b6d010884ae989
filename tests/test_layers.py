"""Layers: an import goes down, never up, and machines in ``core/`` do not import each other.

Imports inside of functions count, and so do imports for type checkers only.
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
    "1 machines": "core core.address core.deadlines core.frames core.histogram core.inbox core.lifecycle "
    "core.limits core.memory core.networks core.origin core.patterns core.protocol core.queue core.registry "
    "core.session core.sites core.token core.unacknowledged core.wheel",
    "2 configuration": "config config.callables config.check config.checks config.config config.environment "
    "config.groups config.marks routes.terms routes options",
    "3 ports": "loop loop.usercode loop.tasks loop.timekeeper wires wires.asgi wires.base wires.daphne "
    "wires.deflate wires.session wires.standalone wires.departure wires.granian wires.hypercorn wires.hypercorn.http1 "
    "wires.hypercorn.peer wires.hypercorn.shield wires.hypercorn.stream wires.lean wires.observers wires.tcp "
    "wires.traits wires.transport wires.uvicorn wires.uvicorn.base wires.uvicorn.legacy wires.uvicorn.protocol "
    "wires.uvicorn.sansio wires.uvicorn.wsproto wires.wsproto signals signals.base signals.daphne signals.granian "
    "signals.hypercorn signals.loop signals.uvicorn",
    "4 services": "loop.services loop.backpressure loop.turn_log loop.members loop.readahead loop.lingering",
    "5 connection": "connection connection.base connection.carrier connection.closing connection.connection "
    "connection.handler connection.heartbeat connection.outcome connection.peer connection.receiver connection.sender "
    "connection.standalone connection.userdata",
    "6 hub": "routes.route_map routes.routing hub hub.connecting hub.counters hub.delivery hub.door hub.doubles "
    "hub.drain hub.drain_endpoint hub.eviction hub.hub hub.loops hub.names hub.opening hub.plain hub.probing hub.rooms "
    "hub.scopes hub.second_look hub.serving hub.sessions hub.subscribers hub.tokens hub.unfinished",
    "7 manager": "manager",
    "8 edge": "middleware exporters exporters.logs __init__ client client.actions client.backoff client.connection "
    "client.endings client.heartbeat client.life client.machine client.negotiation client.outbox client.states",
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
    "websockets": "client.connection",
    "wsproto": "wires.hypercorn.peer wires.hypercorn.stream wires.wsproto",
}
"""Third-party packages, and the modules that may import them."""

MACHINES_OF_MACHINES = {
    "core.address": {"core.networks"},
    "core.origin": {"core.sites"},
    "core.session": {"core.frames", "core.limits", "core.protocol", "core.queue", "core.unacknowledged"},
    "core.unacknowledged": {"core.queue"},
}
"""The exceptions: a machine, and the machines that it is made of."""

MACHINES_DO_WITHOUT = {"asyncio", "anyio", "trio", "threading", "time", "datetime", "logging", "random", "socket"}
"""Modules that no machine imports: it takes the time as an argument, and leaves loop, log and chance to its caller."""

CLIENT_MACHINES = [
    f"client.{name}" for name in words("actions backoff endings heartbeat life machine negotiation outbox states")
]
"""What the client of wsstab.v1 is made of, without its I/O."""

PARTS = words("base carrier sender heartbeat receiver closing peer handler outcome connection standalone")
"""The parts of a connection: each imports only those before it."""

PAST_THE_INTERFACE = {"hub.opening": {"connection.carrier"}, "hub.unfinished": {"connection.receiver"}}
"""The exceptions: modules outside of ``connection/``, and the parts of a connection that they import directly."""

FOLDERS = ["words", "core", "config", "routes", "loop", "wires", "signals", "connection", "hub", "edge"]
"""The folders, from the bottom to the top."""
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
    """The folder of a module; ``words`` or ``edge`` for a module in the root."""
    first = module.partition(".")[0]
    return first if first in FOLDERS else "words" if FLOOR_OF[module] == 0 else "edge"


def path_of(module: str) -> Path:
    """The file of a module."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def statements(nodes: Iterable[ast.AST], typed: bool = False) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements in syntax trees.

    Args:
        nodes: the trees.
        typed: whether to include imports for type checkers only.
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
    """The top-level package of a full name; a full name of this package counts as inside."""
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


# Rules. Each function returns the imports of a module that break its rule; ``source`` replaces the module's own text.


def higher(module: str, source: str | None = None) -> set[str]:
    """Imports of modules on a higher floor."""
    return {name for name in inner(module, source=source) if FLOOR_OF[name] > FLOOR_OF[module]}


def higher_folders(module: str, source: str | None = None) -> set[str]:
    """Imports of modules in a higher folder, including those for type checkers."""
    here = FOLDERS.index(folder(module))
    return {name for name in inner(module, True, source) if FOLDERS.index(folder(name)) > here}


def other_machines(module: str, source: str | None = None) -> set[str]:
    """Imports of machines that this machine is not made of, or of anything above the machines."""
    return {name for name in inner(module, True, source) if FLOOR_OF[name] > 0} - MACHINES_OF_MACHINES.get(
        module, set()
    )


def loops_clocks_and_logs(module: str, source: str | None = None) -> set[str]:
    """Imports of whatever a machine must get as an argument."""
    return imports(module, source, typed=True) & MACHINES_DO_WITHOUT


def undeclared(module: str, source: str | None = None) -> set[str]:
    """Imports of packages that the table does not allow for this module."""
    foreign = {
        name for name in imports(module, source) if not name.startswith(".") and name not in sys.stdlib_module_names
    }
    return foreign - {name for name in THIRD_PARTIES if may_import(module, name)}


def later_parts(module: str, source: str | None = None) -> set[str]:
    """Imports of parts of a connection that come after this part."""
    before = {f"connection.{each}" for each in ["userdata", *PARTS[: PARTS.index(module.partition(".")[2])]]}
    return {name for name in inner(module, True, source) if folder(name) == "connection"} - before


def past_the_interface(module: str, source: str | None = None) -> set[str]:
    """Direct imports of parts of a connection, past ``connection/__init__.py``."""
    parts = {name for name in inner(module, True, source) if name.startswith("connection.")}
    return parts - PAST_THE_INTERFACE.get(module, set())


def test_every_module_has_a_floor() -> None:
    """The table names no module that does not exist."""
    named = [module for names in FLOORS.values() for module in names.split()]
    assert sorted(named) == sorted(modules())


@pytest.mark.parametrize("module", modules())
def test_an_import_never_goes_up(module: str) -> None:
    """A module imports from its own floor or from a lower one."""
    assert higher(module) == set()


@pytest.mark.parametrize("module", [module for module in modules() if module.startswith("core.")])
def test_a_machine_imports_only_the_machines_that_it_is_made_of(module: str) -> None:
    """It may also import the words, the standard library, and ``itsdangerous`` where tokens are signed."""
    assert other_machines(module) == set()


@pytest.mark.parametrize("module", [module for module in modules() if module.startswith("core")])
def test_a_machine_imports_neither_loop_nor_clock_nor_log(module: str) -> None:
    """It takes the time as an argument, so its tests never sleep."""
    assert loops_clocks_and_logs(module) == set()


@pytest.mark.parametrize("module", CLIENT_MACHINES)
def test_a_machine_of_the_client_imports_other_machines_only(module: str) -> None:
    """A client needs nothing of a server but their protocol, and leaves loop, clock and log to its caller."""
    assert {name for name in inner(module, True) if not name.startswith(("core.", "client."))} == set()
    assert loops_clocks_and_logs(module) == set()


@pytest.mark.parametrize("module", modules())
def test_a_folder_never_imports_a_higher_folder_even_for_type_checkers(module: str) -> None:
    """A loop knows its connections by Protocols only, and so does a machine its users."""
    assert higher_folders(module) == set()


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_declared_packages(module: str) -> None:
    """They are the standard library and the packages of the table, each for the modules named there."""
    assert undeclared(module) == set()


def may_import(module: str, name: str) -> bool:
    """Whether the table lets a module import a package."""
    where = THIRD_PARTIES[name]
    return FLOOR_OF[module] > 1 if where == "everywhere above core" else module in where.split()


def test_there_are_no_circular_imports() -> None:
    """Not even for type checkers, so there is an order in which each file can be read after those it needs."""
    assert circles({module: inner(module, typed=True) for module in modules()}) == {}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_connection_imports_only_earlier_parts(part: str) -> None:
    """What it needs of later parts is a Protocol in ``connection/base.py``."""
    assert later_parts(f"connection.{part}") == set()


def test_every_part_of_a_connection_is_in_the_ordered_list() -> None:
    """A new part has to be added to the list."""
    parts = {module.partition(".")[2] for module in modules() if module.startswith("connection.")}
    assert parts - {"userdata"} == set(PARTS)


@pytest.mark.parametrize("module", [module for module in modules() if folder(module) in ("hub", "edge")])
def test_hub_and_edge_import_connections_through_the_package(module: str) -> None:
    """They import what ``connection/__init__.py`` exports, but for the exceptions listed above."""
    assert past_the_interface(module) == set()


def circles(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The part of a graph that is in a circle or leads into one."""
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
        (past_the_interface, "hub.door", "from ..connection.sender import Sender"),
        (past_the_interface, "middleware", FOR_CHECKERS + "from .connection.closing import Closing"),
    ],
)
def test_each_rule_finds_an_import_that_breaks_it(
    rule: Callable[[str, str], set[str]], module: str, source: str
) -> None:
    """A test of the rules, as if the source stood in the module."""
    assert rule(module, source) != set()


def test_a_circle_is_found_with_the_modules_that_lead_into_it() -> None:
    """A module that imports nothing is not part of it."""
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
def test_the_walk_finds_every_form_of_import(source: str, expected: set[str]) -> None:
    """A test of the walk, as if the source stood in ``core/wheel.py``."""
    assert imports("core.wheel", source) == expected


def test_the_walk_finds_imports_for_type_checkers_when_asked_to() -> None:
    """As if the source stood in ``loop/readahead.py``."""
    source = "if TYPE_CHECKING:\n    from ..connection import Connection"
    assert imports("loop.readahead", source) == set()
    assert imports("loop.readahead", source, typed=True) == {".connection"}


def test_the_walk_resolves_relative_imports_of_a_package() -> None:
    """In an ``__init__.py`` one dot is the package itself."""
    assert imports("signals", "from .base import owner\nfrom ..tasks import x") == {".signals.base", ".tasks"}
    assert imports("__init__", "from .close import Close") == {".close"}
