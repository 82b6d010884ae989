"""Errors: their base class, their data, their messages, and the closes they carry."""

from __future__ import annotations

import copy
import pickle

import pytest

from wsstab import errors
from wsstab.close import (
    ADDRESS_LIMIT,
    CONNECTION_LIMIT,
    DRAINING,
    DUPLICATE_CLIENT,
    EVICTED,
    HEARTBEAT_TIMEOUT,
    RAISED,
    UNAUTHORIZED,
    Close,
)
from wsstab.errors import (
    BroadcastFailedError,
    ConnectionLimitExceededError,
    ConnectionNotFoundError,
    ConnectionTimeoutError,
    InvalidTokenError,
    MemoryLimitExceededError,
    PeerGoneError,
    ShutdownError,
    TokenExpiredError,
    WebSocketStabilizerError,
)
from wsstab.reports import BroadcastResult

RESULT = BroadcastResult(total=3, failed=3)

SAMPLES: list[tuple[WebSocketStabilizerError, str, Close]] = [
    (WebSocketStabilizerError("broken"), "broken", RAISED),
    (ConnectionNotFoundError("ann"), "no connection has the client id 'ann'", RAISED),
    (ConnectionNotFoundError(), "no connection has the client id ''", RAISED),
    (ConnectionLimitExceededError(100), "connection limit reached (100)", CONNECTION_LIMIT),
    (ConnectionLimitExceededError(), "connection limit reached", CONNECTION_LIMIT),
    (ConnectionLimitExceededError(2, ADDRESS_LIMIT), "too many connections from this address (2)", ADDRESS_LIMIT),
    (
        ConnectionLimitExceededError(close=DUPLICATE_CLIENT),
        "replaced by a newer connection",
        DUPLICATE_CLIENT,
    ),
    (ConnectionTimeoutError(2.5), "nothing arrived for 2.5 s after the heartbeat", HEARTBEAT_TIMEOUT),
    (InvalidTokenError("used"), "reconnect token refused: used", UNAUTHORIZED),
    (TokenExpiredError(7), "reconnect token expired 7 ms ago", UNAUTHORIZED),
    (BroadcastFailedError(RESULT), "all 3 deliveries of the broadcast failed", RAISED),
    (ShutdownError(), "the manager is shutting down", DRAINING),
    (ShutdownError("draining since noon"), "draining since noon", DRAINING),
    (MemoryLimitExceededError(10, 12), "memory limit of 10 bytes exceeded: 12 bytes needed", EVICTED),
]
IDS = [f"{type(error).__name__}-{number}" for number, (error, _, _) in enumerate(SAMPLES)]


@pytest.mark.parametrize(("error", "sentence", "close"), SAMPLES, ids=IDS)
def test_an_error_has_a_message_and_the_close_that_it_leads_to(
    error: WebSocketStabilizerError, sentence: str, close: Close
) -> None:
    """The message is made of the data of the error; the close belongs to its class."""
    assert str(error) == sentence
    assert error.close == close


@pytest.mark.parametrize(("error", "sentence", "close"), SAMPLES, ids=IDS)
def test_an_error_survives_pickling_and_copying(error: WebSocketStabilizerError, sentence: str, close: Close) -> None:
    """Task queues and process pools pickle the errors that are raised."""
    for travelled in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(travelled) is type(error)
        assert vars(travelled) == vars(error)
        assert (str(travelled), travelled.close) == (sentence, close)


def test_errors_keep_their_data_as_attributes() -> None:
    """Nobody has to parse a message."""
    assert ConnectionNotFoundError("ann").client_id == "ann"
    assert ConnectionLimitExceededError(100).limit == 100
    assert ConnectionTimeoutError(2.5).timeout == 2.5
    assert InvalidTokenError("used").why == "used"
    assert TokenExpiredError(7).expired_ms == 7
    assert BroadcastFailedError(RESULT).result is RESULT
    memory = MemoryLimitExceededError(10, 12)
    assert (memory.limit, memory.needed) == (10, 12)


def test_all_errors_but_peer_gone_error_share_one_base_class() -> None:
    """``PeerGoneError`` is an ``OSError``, which Starlette turns into ``WebSocketDisconnect``."""
    classes = [getattr(errors, name) for name in errors.__all__]
    outside = [error for error in classes if not issubclass(error, WebSocketStabilizerError)]
    assert outside == [PeerGoneError]
    assert issubclass(PeerGoneError, OSError)


def test_the_tree_in_the_module_docstring_names_every_error() -> None:
    """A new error has to be added to it."""
    assert errors.__doc__ is not None
    assert [name for name in errors.__all__ if name not in errors.__doc__] == []
