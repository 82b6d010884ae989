"""How these tests are run.

- Warnings are errors. Nothing is skipped.
- Tests of pure code never sleep: pure code takes the time as an argument.
- Tests on real servers start a server in its own process and speak to it over real sockets. They
  wait for conditions, with a deadline, never for a fixed time; deadlines are generous, because
  they only matter when something is broken.
- The tests of one variant share a server. A test configures a lab inside it: an application with
  a manager of its own. When a lab closes, its tasks must have ended and the server must have logged
  no complaint, so every server test also tests for leaks.
"""

from __future__ import annotations

import contextlib
import fcntl
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.composition.recorder import CompositionRecorder
from tests.servers.expected import reason_to_fail
from tests.support.lab import EVERYTHING, Lab
from tests.support.recorder import Recorder, mark
from tests.support.server import VARIANTS, Server, Variant

each_implementation = pytest.mark.parametrize(
    "variant", [each for each in VARIANTS if each.loop != "asyncio" or each.server == "daphne"], ids=str, indirect=True
)
"""For slow tests with the same result on every asyncio loop: asyncio's own loop is left out, except for daphne."""

MakeLab = Callable[..., Lab]
MakeServer = Callable[..., Server]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say where the results of the conformance suite and of the compositions go."""
    parser.addoption("--matrix", metavar="FILE", help="write what holds on which server")
    parser.addoption("--composition", metavar="FILE", help="write what holds among which packages")


def pytest_configure(config: pytest.Config) -> None:
    """Record results in the process that receives all reports; let Ctrl-C reach the servers that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell without job control starts background jobs with SIGINT ignored, and our servers would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for option, recorder in (("--matrix", Recorder), ("--composition", CompositionRecorder)):
        path = config.getoption(option)
        if path and not hasattr(config, "workerinput"):
            config.pluginmanager.register(recorder(Path(path)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that must fail on its variant, and each that belongs to a row of the matrix."""
    for item in items:
        variant = variant_of(item)
        if variant is None:
            continue
        mark(item, names_of(item)[0], str(variant))
        reason = reason_to_fail(names_of(item), variant)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


def variant_of(item: pytest.Item) -> Variant | None:
    """The variant that a test runs on, or ``None`` for a test that has no variant."""
    callspec = getattr(item, "callspec", None)
    variant = None if callspec is None else callspec.params.get("variant")
    return variant if isinstance(variant, Variant) else None


def names_of(item: pytest.Item) -> tuple[str, str]:
    """``file.py::test_name``, without and with the parameters of the test."""
    name = getattr(item, "originalname", item.name)
    return f"{item.path.name}::{name}", f"{item.path.name}::{item.name}"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session", params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Each server with each of its WebSocket implementations on each loop."""
    assert isinstance(request.param, Variant)
    return request.param


@pytest.fixture(scope="session")
def server(variant: Variant) -> Iterator[Server]:
    """The shared server of a variant."""
    with Server("tests.support.apps.lab:app", variant) as running:
        yield running


@pytest.fixture
def lab(server: Server) -> Iterator[MakeLab]:
    """Makes labs in the shared server: ``lab(heartbeat_interval=0.3)``."""
    server.revive()
    with contextlib.ExitStack() as stack:
        yield lambda app=EVERYTHING, **options: stack.enter_context(Lab(server, app, **options))


@pytest.fixture
def serve() -> Iterator[MakeServer]:
    """Starts servers for one test: ``serve(app, variant, options, **more)``, see `Server`."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **more: stack.enter_context(Server(*arguments, **more))


@pytest.fixture
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A lock between all test processes: a test that moves gigabytes would starve the clients of another."""
    with (tmp_path_factory.getbasetemp().parent / "heavy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Certificate file, key file and client context for ``localhost``."""
    import ssl

    import trustme

    authority, folder = trustme.CA(), Path(tmp_path_factory.mktemp("tls"))
    issued = authority.issue_cert("localhost", "127.0.0.1")
    chain, key = folder / "chain.pem", folder / "key.pem"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return str(chain), str(key), context
