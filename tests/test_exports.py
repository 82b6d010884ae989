"""What the package offers: all of it there, all of it documented, and nothing loaded that was not asked for."""

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
"""What users import from ``wsstab``."""

MANAGER = words("""
    start connect disconnect send_to_client broadcast get_active_connections get_connection_count
    generate_reconnect_token validate_reconnect_token handle_pong graceful_shutdown get_memory_usage
    set_user_data get_user_data
    broadcast_to_clients join leave get_rooms get_room_members get_connection connections drain drain_endpoint
    disconnect_all statistics is_draining is_ready on
""")
"""What a manager has: the published methods, then the new ones."""

COROUTINES = words("""
    start connect disconnect send_to_client broadcast validate_reconnect_token handle_pong graceful_shutdown
    set_user_data get_user_data broadcast_to_clients join leave drain disconnect_all
""")
"""Which of them are awaited."""

CONNECTION = words("""
    id client_id rooms metadata user_data address path opened_at last_activity latency closed draining
    statistics send close join leave
""")
"""What a connection has."""

FOR_CHECKERS = {"Self": object, "Unpack": typing_extensions.Unpack}
"""What some modules import for type checkers only."""

OPTIONAL = {"uvicorn", "websockets", "wsproto", "trio", "fastapi", "pydantic", "uvloop", "httpx"}
"""What may not be installed, and must not be loaded before it is needed."""


def modules() -> list[str]:
    """All modules of the package, by their full name."""
    return ["wsstab", *(found.name for found in pkgutil.walk_packages(wsstab.__path__, "wsstab."))]


def documented(thing: object) -> bool:
    """Whether somebody wrote a docstring; a dataclass makes itself one that says nothing."""
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
def test_what_was_promised_is_there(name: str) -> None:
    """Importable, and in ``__all__``."""
    assert name in wsstab.__all__
    assert getattr(wsstab, name).__name__ == name


def test_nothing_is_offered_that_was_not_promised() -> None:
    """Each name is one to keep for years: a new one belongs into the list above."""
    assert sorted(PROMISED) == sorted(wsstab.__all__)


@pytest.mark.parametrize("name", wsstab.__all__)
def test_what_is_offered_is_documented(name: str) -> None:
    """By hand, and each public method and property of a class too."""
    thing = getattr(wsstab, name)
    assert documented(thing)
    if isinstance(thing, type):
        assert [member for member in members(thing) if not documented(inspect.getattr_static(thing, member))] == []


@pytest.mark.parametrize("name", MANAGER)
def test_a_manager_has_what_was_promised(name: str) -> None:
    """With the kind of call that was published."""
    member = inspect.getattr_static(wsstab.WebSocketConnectionManager, name)
    assert inspect.iscoroutinefunction(member) == (name in COROUTINES)
    assert isinstance(member, property) == name.startswith("is_")


def classes_of(annotation: object) -> set[type]:
    """The classes of this package that an annotation names."""
    if get_origin(annotation) is ClassVar:
        return set()
    if isinstance(annotation, type) and not get_args(annotation):
        # Protocols and typed keywords are what arguments have to look like; nobody makes one or gets one.
        shape = getattr(annotation, "_is_protocol", False) or is_typeddict(annotation)
        return {annotation} if annotation.__module__.partition(".")[0] == "wsstab" and not shape else set()
    inner = annotation if isinstance(annotation, list) else get_args(annotation)
    return {found for each in inner for found in classes_of(each)}


def promised(name: str) -> list[object]:
    """What of an exported name users call or read."""
    thing = getattr(wsstab, name)
    lists = {"WebSocketConnectionManager": MANAGER, "Connection": CONNECTION}
    if not isinstance(thing, type):
        return [thing]
    # Connections are made by us alone.
    own = [thing] if name == "Connection" else [thing, thing.__init__]  # type: ignore[misc]
    taken = [inspect.getattr_static(thing, each, None) for each in lists.get(name, members(thing))]
    return [*own, *(each.fget if isinstance(each, property) else each for each in taken)]


@pytest.mark.parametrize("name", wsstab.__all__)
def test_a_class_that_a_public_signature_names_is_offered_too(name: str) -> None:
    """Whoever gets one can write its type, and catch it: arguments, answers, and the fields of dataclasses."""
    names = vars(importlib.import_module(getattr(wsstab, name).__module__)) | {"Connection": wsstab.Connection}
    for thing in promised(name):
        if not isinstance(thing, type) and not inspect.isroutine(thing):
            continue
        hints = get_type_hints(thing, names, FOR_CHECKERS)
        for annotation in hints.values():
            assert {each.__name__ for each in classes_of(annotation)} <= set(wsstab.__all__), thing


def test_the_walk_through_annotations_finds_what_is_nested() -> None:
    """Else the test above could not fail."""
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
def test_a_method_takes_what_was_published(name: str, parameters: dict[str, object]) -> None:
    """In this order, by these names and with these defaults; what else it takes comes behind and has a default."""
    signature = inspect.signature(getattr(wsstab.WebSocketConnectionManager, name))
    taken = list(signature.parameters.values())[1:]
    assert {each.name: ... if each.default is each.empty else each.default for each in taken[: len(parameters)]} == (
        parameters
    )
    assert [each.name for each in taken[: len(parameters)]] == list(parameters)
    assert all(each.default is not each.empty for each in taken[len(parameters) :])


@pytest.mark.parametrize("name", CONNECTION)
def test_a_connection_has_what_was_promised(name: str) -> None:
    """As an attribute, a property or a method."""
    assert hasattr(wsstab.Connection, name)


@pytest.mark.parametrize(
    ("kind", "names"), [(wsstab.WebSocketConnectionManager, MANAGER), (wsstab.Connection, CONNECTION)]
)
def test_what_is_public_is_what_was_promised(kind: type, names: list[str]) -> None:
    """Nothing more: what parts of the package ask of each other is nobody else's business."""
    assert sorted(name for name in dir(kind) if not name.startswith("_")) == sorted(names)


def test_an_object_shows_no_more_than_its_class() -> None:
    """A manager has its configuration beside."""
    manager = wsstab.WebSocketConnectionManager()
    assert {name for name in dir(manager) if not name.startswith("_")} - set(MANAGER) == {"config"}
    assert not hasattr(manager, "broadcaster")


@pytest.mark.parametrize("name", modules())
def test_the_names_a_module_offers_exist(name: str) -> None:
    """And every module says what it is, and what it offers."""
    module = importlib.import_module(name)
    assert documented(module)
    offered = offers(module)
    assert [each for each in offered if not hasattr(module, each)] == []
    assert offered == list(dict.fromkeys(offered))


def offers(module: ModuleType) -> list[str]:
    """``__all__``; a package that only holds modules may have none."""
    names: list[str] | None = getattr(module, "__all__", None)
    if names is None:
        assert hasattr(module, "__path__")
    return names or []


def test_every_error_is_below_the_root() -> None:
    """One except clause covers them, and each says how a connection ends that it escapes from.

    `PeerGoneError` is none: Starlette and the servers expect an `OSError` there.
    """
    errors = [getattr(wsstab, name) for name in wsstab.__all__ if name.endswith("Error") and name != "PeerGoneError"]
    assert issubclass(wsstab.PeerGoneError, OSError)
    assert all(issubclass(error, wsstab.WebSocketStabilizerError) for error in errors)
    assert all(isinstance(error.close, wsstab.Close) for error in errors)


def test_importing_the_package_loads_nothing_that_may_be_missing() -> None:
    """Neither a server nor a framework beyond Starlette."""
    code = "import sys, wsstab; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "wsstab" in loaded
    assert OPTIONAL & set(loaded) == set()


def test_it_says_which_version_it_is() -> None:
    """Three numbers, at least."""
    numbers = wsstab.__version__.split(".")
    assert len(numbers) >= 3
    assert numbers[0].isdigit()
