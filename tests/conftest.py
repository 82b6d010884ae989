"""How these tests are run.

- Warnings are errors. Nothing is skipped.
- Tests of pure code never sleep: the time is an argument there.
- Tests on real servers start a server in its own process and speak to it over real sockets. They
  wait for conditions, with a deadline, never for a fixed time; deadlines are generous, because
  they only matter when something is broken.
- A server is shared by the tests of one variant; what a test configures is a lab inside it, with
  a manager of its own. When a lab closes, its tasks must be gone and the server must not have
  complained: every server test is a test against leaks too.
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
"""For tests that take long and cannot differ by asyncio loop: not on asyncio's own, but on uvloop and trio."""

MakeLab = Callable[..., Lab]
MakeServer = Callable[..., Server]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the results of the conformance suite, and of the compositions, go."""
    parser.addoption("--matrix", metavar="FILE", help="write what holds on which server")
    parser.addoption("--composition", metavar="FILE", help="write what holds among which packages")


def pytest_configure(config: pytest.Config) -> None:
    """Record, in the process that hears of all results; let Ctrl-C reach what this process starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell without job control starts what is in its background, and our servers would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for option, recorder in (("--matrix", Recorder), ("--composition", CompositionRecorder)):
        path = config.getoption(option)
        if path and not hasattr(config, "workerinput"):
            config.pluginmanager.register(recorder(Path(path)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what must fail on the variant that it is for, and what belongs to a row of the matrix."""
    for item in items:
        variant = variant_of(item)
        if variant is None:
            continue
        mark(item, names_of(item)[0], str(variant))
        reason = reason_to_fail(names_of(item), variant)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


def variant_of(item: pytest.Item) -> Variant | None:
    """The variant a test is for, where it is for one."""
    callspec = getattr(item, "callspec", None)
    variant = None if callspec is None else callspec.params.get("variant")
    return variant if isinstance(variant, Variant) else None


def names_of(item: pytest.Item) -> tuple[str, str]:
    """``file.py::test_name``, without and with its parameters."""
    name = getattr(item, "originalname", item.name)
    return f"{item.path.name}::{name}", f"{item.path.name}::{item.name}"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session", params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Each server, each of its WebSocket implementations, on each loop."""
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
    """Held by one test at a time, whichever process runs it: what moves gigabytes starves the clients of others."""
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
