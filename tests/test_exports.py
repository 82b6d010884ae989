"""Public API: every promised name exists and is documented, and importing it loads no optional package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import ClassVar, get_args, get_origin, get_type_hints, is_typeddict

import pytest
import typing_extensions

import wsstab


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


PROMISED = words("""
    WebSocketStabilizer WebSocketConnectionManager WebSocketConfig Override Connection
    BroadcastResult ShutdownReport Statistics ConnectionStatistics Histogram
    MemoryEvictionPolicy CompressionMode HeartbeatType SlowConsumerPolicy
    CloseCode Close Cause Inbound Outbound RateLimit Drain Hooks
    get_manager get_connection get_logger configure_logging StructuredLogger
    WebSocketStabilizerError ConnectionNotFoundError ConnectionLimitExceededError ConnectionTimeoutError
    TokenExpiredError InvalidTokenError BroadcastFailedError ShutdownError MemoryLimitExceededError
    PeerGoneError
    Event ConnectionOpened ConnectionIdentified ConnectionClosed HeartbeatMissed SlowConsumer LimitHit
    ConnectionEvicted TokenIssued TokenUsed TokenRefused DrainStarted DrainRound DrainFinished
""")
"""The names that users import from ``wsstab``."""

MANAGER = words("""
    start connect disconnect send_to_client broadcast get_active_connections get_connection_count
    generate_reconnect_token validate_reconnect_token handle_pong graceful_shutdown get_memory_usage
    set_user_data get_user_data
    broadcast_to_clients join leave get_rooms get_room_members get_connection connections drain drain_endpoint
    disconnect_all statistics is_draining is_ready on
""")
"""The members of a manager: the published ones, then the new ones."""

COROUTINES = words("""
    start connect disconnect send_to_client broadcast validate_reconnect_token handle_pong graceful_shutdown
    set_user_data get_user_data broadcast_to_clients join leave drain disconnect_all
""")
"""The members of a manager that are coroutine functions."""

CONNECTION = words("""
    id client_id rooms metadata user_data address path opened_at last_activity latency closed draining
    statistics send close join leave
""")
"""The members of a connection."""

FOR_CHECKERS = {"Self": object, "Unpack": typing_extensions.Unpack}
"""Names that some modules import for type checkers only."""

OPTIONAL = {"uvicorn", "websockets", "wsproto", "trio", "fastapi", "pydantic", "uvloop", "httpx"}
"""Packages that may be absent, and must not be loaded before they are needed."""


def modules() -> list[str]:
    """All modules of the package, by their full name."""
    return ["wsstab", *(found.name for found in pkgutil.walk_packages(wsstab.__path__, "wsstab."))]


def documented(thing: object) -> bool:
    """Whether somebody wrote a docstring; the one that a dataclass generates does not count."""
    text = (getattr(thing, "__doc__", None) or "").strip()
    return bool(text) and not text.startswith(f"{getattr(thing, '__name__', '?')}(")


def members(kind: type) -> list[str]:
    """The public methods and properties that a class defines itself."""
    return [
        name
        for name, value in vars(kind).items()
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
    ]


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_name_can_be_imported(name: str) -> None:
    """It is in ``__all__`` too, under its own name."""
    assert name in wsstab.__all__
    assert getattr(wsstab, name).__name__ == name


def test_the_package_exports_exactly_the_promised_names() -> None:
    """A public name has to be kept for years, so a new one must be added to the list above."""
    assert sorted(PROMISED) == sorted(wsstab.__all__)


@pytest.mark.parametrize("name", wsstab.__all__)
def test_every_exported_name_is_documented(name: str) -> None:
    """For a class, each public method and property that it defines needs a docstring as well."""
    thing = getattr(wsstab, name)
    assert documented(thing)
    if isinstance(thing, type):
        assert [member for member in members(thing) if not documented(inspect.getattr_static(thing, member))] == []


@pytest.mark.parametrize("name", MANAGER)
def test_a_manager_has_each_promised_member(name: str) -> None:
    """Each is a coroutine function, a property or a plain method, as published."""
    member = inspect.getattr_static(wsstab.WebSocketConnectionManager, name)
    assert inspect.iscoroutinefunction(member) == (name in COROUTINES)
    assert isinstance(member, property) == name.startswith("is_")


def classes_of(annotation: object) -> set[type]:
    """The classes of this package that an annotation names."""
    if get_origin(annotation) is ClassVar:
        return set()
    if isinstance(annotation, type) and not get_args(annotation):
        # Protocols and typed keywords describe arguments; users neither create them nor get them back.
        shape = getattr(annotation, "_is_protocol", False) or is_typeddict(annotation)
        return {annotation} if annotation.__module__.partition(".")[0] == "wsstab" and not shape else set()
    inner = annotation if isinstance(annotation, list) else get_args(annotation)
    return {found for each in inner for found in classes_of(each)}


def promised(name: str) -> list[object]:
    """The parts of an exported name that users call or read."""
    thing = getattr(wsstab, name)
    lists = {"WebSocketConnectionManager": MANAGER, "Connection": CONNECTION}
    if not isinstance(thing, type):
        return [thing]
    # Only the package creates connections.
    own = [thing] if name == "Connection" else [thing, thing.__init__]  # type: ignore[misc]
    taken = [inspect.getattr_static(thing, each, None) for each in lists.get(name, members(thing))]
    return [*own, *(each.fget if isinstance(each, property) else each for each in taken)]


@pytest.mark.parametrize("name", wsstab.__all__)
def test_a_class_that_a_public_signature_names_is_exported(name: str) -> None:
    """Users can then annotate and catch whatever they pass or get: arguments, results, and fields of dataclasses."""
    names = vars(importlib.import_module(getattr(wsstab, name).__module__)) | {"Connection": wsstab.Connection}
    for thing in promised(name):
        if not isinstance(thing, type) and not inspect.isroutine(thing):
            continue
        hints = get_type_hints(thing, names, FOR_CHECKERS)
        for annotation in hints.values():
            assert {each.__name__ for each in classes_of(annotation)} <= set(wsstab.__all__), thing


def test_the_walk_through_annotations_finds_nested_classes() -> None:
    """Otherwise the test above could not fail."""
    hints = get_type_hints(wsstab.Statistics)
    assert classes_of(hints["latencies"]) == {wsstab.Histogram}
    assert classes_of(get_type_hints(wsstab.Connection.statistics)["return"]) == {wsstab.ConnectionStatistics}
    assert classes_of(Callable[[wsstab.Close], list[wsstab.Cause | None]]) == {wsstab.Close, wsstab.Cause}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("connect", {"client_id": ..., "websocket": ..., "metadata": None}),
        ("disconnect", {"client_id": ..., "code": 1000, "reason": ""}),
        ("send_to_client", {"client_id": ..., "message": ...}),
        ("broadcast", {"message": ..., "exclude_client": None, "room": None, "exclude": (), "key": None}),
        ("broadcast_to_clients", {"client_ids": ..., "message": ...}),
        ("graceful_shutdown", {"timeout": 30.0}),
        ("set_user_data", {"client_id": ..., "key": ..., "value": ...}),
        ("get_user_data", {"client_id": ..., "key": ...}),
        ("generate_reconnect_token", {"client_id": ...}),
        ("validate_reconnect_token", {"token": ...}),
        ("on", {"event": ..., "callback": None}),
    ],
)
def test_a_method_takes_the_published_parameters(name: str, parameters: dict[str, object]) -> None:
    """They keep their order, names and defaults; additional ones follow them and have defaults."""
    signature = inspect.signature(getattr(wsstab.WebSocketConnectionManager, name))
    taken = list(signature.parameters.values())[1:]
    assert {each.name: ... if each.default is each.empty else each.default for each in taken[: len(parameters)]} == (
        parameters
    )
    assert [each.name for each in taken[: len(parameters)]] == list(parameters)
    assert all(each.default is not each.empty for each in taken[len(parameters) :])


@pytest.mark.parametrize("name", CONNECTION)
def test_a_connection_has_each_promised_member(name: str) -> None:
    """It is an attribute, a property or a method."""
    assert hasattr(wsstab.Connection, name)


@pytest.mark.parametrize(
    ("kind", "names"), [(wsstab.WebSocketConnectionManager, MANAGER), (wsstab.Connection, CONNECTION)]
)
def test_a_class_has_no_public_members_beyond_the_promised_ones(kind: type, names: list[str]) -> None:
    """Whatever parts of the package need of each other is private."""
    assert sorted(name for name in dir(kind) if not name.startswith("_")) == sorted(names)


def test_a_manager_object_adds_only_its_configuration_to_its_class() -> None:
    """No internal part is a public attribute."""
    manager = wsstab.WebSocketConnectionManager()
    assert {name for name in dir(manager) if not name.startswith("_")} - set(MANAGER) == {"config"}
    assert not hasattr(manager, "broadcaster")


@pytest.mark.parametrize("name", modules())
def test_every_name_in_the_all_of_a_module_exists(name: str) -> None:
    """No name is listed twice, and every module has a docstring."""
    module = importlib.import_module(name)
    assert documented(module)
    offered = offers(module)
    assert [each for each in offered if not hasattr(module, each)] == []
    assert offered == list(dict.fromkeys(offered))


def offers(module: ModuleType) -> list[str]:
    """``__all__``; only a package that just holds modules may lack it."""
    names: list[str] | None = getattr(module, "__all__", None)
    if names is None:
        assert hasattr(module, "__path__")
    return names or []


def test_every_error_but_peer_gone_error_is_a_stabilizer_error() -> None:
    """One except clause covers them, and each carries the close for a connection whose handler it escapes from.

    `PeerGoneError` is an `OSError` instead, which Starlette and the servers expect there.
    """
    errors = [getattr(wsstab, name) for name in wsstab.__all__ if name.endswith("Error") and name != "PeerGoneError"]
    assert issubclass(wsstab.PeerGoneError, OSError)
    assert all(issubclass(error, wsstab.WebSocketStabilizerError) for error in errors)
    assert all(isinstance(error.close, wsstab.Close) for error in errors)


def test_importing_the_package_loads_no_optional_package() -> None:
    """It loads neither a server nor any framework but Starlette."""
    code = "import sys, wsstab; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "wsstab" in loaded
    assert OPTIONAL & set(loaded) == set()


def test_the_version_has_at_least_three_parts() -> None:
    """The first of them is a number."""
    numbers = wsstab.__version__.split(".")
    assert len(numbers) >= 3
    assert numbers[0].isdigit()
