"""Structured logs: the fields of every line stand in ``extra``, and one formatter makes them JSON.

All lines of this package come from the logger ``wsstab`` and its children. Only
`configure_logging` sets them up: without that call, warnings and errors go where
the process sends those of every other library.

No line holds a token, a query string or a payload. A value that strangers choose is one word of its line and no longer
than `wsstab.wording.LONGEST_WORD`: names are quoted and paths URL-encoded, so that neither a line break nor a space
can forge a line.

Levels:

    ========  =====================================================================
    ERROR     something of the application or of this package is broken
    WARNING   it works, but not as it was asked to; what an operator should change
    INFO      one line when a connection opens and one when it closes, and drains
    DEBUG     everything else, with the alphabet below
    ========  =====================================================================

Lines at DEBUG, and what reports a failure, begin with one letter of the
alphabet that the ``websockets`` library has:

    ====  =================================
    >     sent to the peer
    <     came from the peer
    =     a state was entered
    %     heartbeat
    -     a detail: a timer, a task, a table
    !     a failure
    x     a connection is being ended
    ====  =================================
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from json import dumps
from typing import Any, TextIO

from ..levels import forget_suggestion
from ..wording import quoted

__all__ = [
    "JSONFormatter",
    "StructuredLogger",
    "configure_logging",
    "get_logger",
]

ROOT = "wsstab"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
PLAIN_FORMAT = "%(asctime)s %(levelname)-8s %(name)s %(message)s"

RECORD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"asctime", "message", "taskName"}
"""What ``logging`` itself puts into a record; ``taskName`` since Python 3.12."""
LINE_FIELDS = frozenset({"exc_info", "level", "logger", "message", "stack_info", "time"})
"""What `JSONFormatter` itself puts into a line."""


def get_logger(name: str | None = None) -> logging.Logger:
    """A logger of this package.

    Args:
        name: of the child; ``None`` for ``wsstab`` itself. A name that begins with ``wsstab.`` is taken as it is.
    """
    if not name or name == ROOT or name.startswith(f"{ROOT}."):
        return logging.getLogger(name or ROOT)
    return logging.getLogger(f"{ROOT}.{name}")


def configure_logging(level: str = "INFO", json: bool = False, stream: TextIO | None = None) -> None:
    """Write the lines of this package to a stream, and only there.

    A second call replaces what the first one set up; handlers of others stay.

    Args:
        level: lowest level that is written: DEBUG, INFO, WARNING, ERROR or CRITICAL, in any case.
        json: one JSON object a line instead of plain text.
        stream: where to; ``None`` for standard error.

    Raises:
        ValueError: no such level.
    """
    if not isinstance(level, str) or level.upper() not in LEVELS:
        raise ValueError(f"level={level!r}: must be one of {', '.join(LEVELS)}")
    handler = _Handler(stream)
    handler.setFormatter(JSONFormatter() if json else logging.Formatter(PLAIN_FORMAT))
    logger = get_logger()
    _remove_ours(logger)
    logger.addHandler(handler)
    forget_suggestion()
    logger.setLevel(level.upper())
    logger.propagate = False


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # no class to subscript before Python 3.11
    """Told apart from the handlers of others by its class."""


def _remove_ours(logger: logging.Logger) -> None:
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)
        handler.close()


class JSONFormatter(logging.Formatter):
    """One JSON object a line, in ASCII.

    It has ``time`` (RFC 3339, UTC, milliseconds), ``level``, ``logger``, ``message``, every field
    of ``extra``, and ``exc_info`` and ``stack_info`` as text where there are any. A field of
    ``extra`` with one of those names gets an underscore at its end. A value that JSON does not
    have becomes its ``str``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": _rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_without_clash(_extra_of(record), LINE_FIELDS),
            **self._traces_of(record),
        }
        return _to_json(line)

    def _traces_of(self, record: logging.LogRecord) -> dict[str, str]:
        traces = {}
        if record.exc_info:
            traces["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            traces["stack_info"] = self.formatStack(record.stack_info)
        return traces


def _extra_of(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in RECORD_FIELDS}


def _without_clash(fields: Mapping[str, Any], taken: frozenset[str]) -> dict[str, Any]:
    return {f"{name}_" if name in taken else name: value for name, value in fields.items()}


def _rfc3339(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_json(line: dict[str, Any]) -> str:
    try:
        return dumps(line, allow_nan=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return dumps({name: _as_json_value(value) for name, value in line.items()}, default=str)


def _as_json_value(value: Any) -> Any:
    # JSON has no NaN, no keys that are not strings and no cycles, and ``default`` is not called for them.
    try:
        dumps(value, allow_nan=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)
    return value


class StructuredLogger:
    """A logger with one method for each kind of happening.

    Every argument and every further field goes into ``extra``; a field with a name that
    ``logging`` keeps for itself (``name``, ``args``…) gets an underscore at its end. Client ids
    are quoted in the sentence, because a line break in one would forge a line.

    Args:
        logger: where the lines go.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger

    def log_connection(self, event: str, client_id: str, **fields: Any) -> None:
        """A connection opened, closed, or was named; INFO.

        Args:
            event: what happened, such as ``opened``.
            client_id: the client that it happened to.
            fields: anything else.
        """
        self._log(logging.INFO, f"connection {event}: {quoted(client_id)}", event=event, client_id=client_id, **fields)

    def log_heartbeat(self, event: str, client_id: str, **fields: Any) -> None:
        """A ping, a pong, or none; DEBUG.

        Args:
            event: what happened, such as ``missed``.
            client_id: the client that it happened to.
            fields: anything else.
        """
        self._log(
            logging.DEBUG, f"% heartbeat {event}: {quoted(client_id)}", event=event, client_id=client_id, **fields
        )

    def log_broadcast(self, total: int, succeeded: int, failed: int, **fields: Any) -> None:
        """A broadcast is done; DEBUG, and WARNING where a delivery failed.

        Args:
            total: connections in the audience.
            succeeded: deliveries that happened.
            failed: deliveries that did not.
            fields: anything else.
        """
        level, mark = (logging.WARNING, "!") if failed else (logging.DEBUG, ">")
        counts = {"total": total, "succeeded": succeeded, "failed": failed}
        self._log(level, f"{mark} broadcast to {total}: {succeeded} succeeded, {failed} failed", **counts, **fields)

    def log_token(self, event: str, client_id: str, **fields: Any) -> None:
        """A reconnect token was issued, used or refused; DEBUG. Never pass the token itself.

        Args:
            event: what happened, such as ``issued``.
            client_id: whom it is for.
            fields: anything else.
        """
        self._log(logging.DEBUG, f"- token {event}: {quoted(client_id)}", event=event, client_id=client_id, **fields)

    def log_error(self, error_type: str, client_id: str | None, error_message: str, **fields: Any) -> None:
        """Something failed; ERROR.

        Args:
            error_type: name of the class of the error.
            client_id: the client concerned; ``None`` for none in particular.
            error_message: the text of the error.
            fields: anything else.
        """
        named = {"error_type": error_type, "client_id": client_id, "error_message": error_message}
        whom = None if client_id is None else quoted(client_id)
        self._log(logging.ERROR, f"! {error_type} for {whom}: {error_message}", **named, **fields)

    def _log(self, level: int, sentence: str, /, **fields: Any) -> None:
        if self.logger.isEnabledFor(level):
            # The sentence is an argument: a client id may hold a percent sign.
            extra = _without_clash(fields, RECORD_FIELDS)
            self.logger.log(level, "%s", sentence, extra=extra, stacklevel=3)
