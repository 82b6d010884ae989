"""Structured logs: the fields of every line are in ``extra``, and one formatter turns them into JSON.

All lines of this package come from the logger ``wsstab`` and its children. Only
`configure_logging` sets these up: without that call, warnings and errors go where
the process sends those of every other library.

No line contains a token, a query string or a payload. A value that peers choose is one word of its line and no longer
than `wsstab.wording.LONGEST_WORD`: names are quoted and paths URL-encoded, so that neither a line break nor a space
can forge a line.

Levels:

    ========  =====================================================================
    ERROR     something in the application or in this package is broken
    WARNING   it works, but not as configured; an operator should change something
    INFO      one line when a connection opens and one when it closes; drains
    DEBUG     everything else, with the alphabet below
    ========  =====================================================================

Lines at DEBUG, and lines that report a failure, begin with one character of the
alphabet of the ``websockets`` library:

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
"""The fields that ``logging`` itself puts into a record; ``taskName`` exists since Python 3.12."""
LINE_FIELDS = frozenset({"exc_info", "level", "logger", "message", "stack_info", "time"})
"""The fields that `JSONFormatter` itself puts into a line."""


def get_logger(name: str | None = None) -> logging.Logger:
    """A logger of this package.

    Args:
        name: name of the child; ``None`` for ``wsstab`` itself. A name that begins with ``wsstab.`` is used unchanged.
    """
    if not name or name == ROOT or name.startswith(f"{ROOT}."):
        return logging.getLogger(name or ROOT)
    return logging.getLogger(f"{ROOT}.{name}")


def configure_logging(level: str = "INFO", json: bool = False, stream: TextIO | None = None) -> None:
    """Write the lines of this package to a stream, and only there.

    A second call replaces the handler of the first one; handlers of other code stay.

    Args:
        level: lowest level that is written: DEBUG, INFO, WARNING, ERROR or CRITICAL, in any case.
        json: whether to write one JSON object per line instead of plain text.
        stream: the stream; ``None`` for standard error.

    Raises:
        ValueError: the level does not exist.
    """
    if not isinstance(level, str) or level.upper() not in LEVELS:
        raise ValueError(f"level={level!r}: must be one of {', '.join(LEVELS)}")
    handler = _Handler(stream)
    handler.setFormatter(JSONFormatter() if json else logging.Formatter(PLAIN_FORMAT))
    logger = get_logger()
    _remove_ours(logger)
    logger.addHandler(handler)
    # The level of a manager's configuration must no longer replace the one that is set here.
    forget_suggestion()
    logger.setLevel(level.upper())
    # Otherwise a handler of the root logger would write each line a second time.
    logger.propagate = False


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # no class to subscript before Python 3.11
    """A class of its own, by which our handler is told apart from those of other code."""


def _remove_ours(logger: logging.Logger) -> None:
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)
        handler.close()


class JSONFormatter(logging.Formatter):
    """Formats each record as one JSON object on one line, in ASCII.

    The object has ``time`` (RFC 3339, UTC, milliseconds), ``level``, ``logger``, ``message``, every
    field of ``extra``, and ``exc_info`` and ``stack_info`` as text if the record has them. A field of
    ``extra`` with one of those names gets an underscore at its end. A value that JSON cannot
    express is replaced by its ``str``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as a line."""
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
    # First all at once, because hardly any line has a value that JSON refuses.
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
    """A logger with one method for each kind of event.

    Every argument and every additional field goes into ``extra``; a field with a name that
    ``logging`` reserves (``name``, ``args``…) gets an underscore at its end. Client ids
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
            client_id: the client concerned.
            fields: additional fields.
        """
        self._log(logging.INFO, f"connection {event}: {quoted(client_id)}", event=event, client_id=client_id, **fields)

    def log_heartbeat(self, event: str, client_id: str, **fields: Any) -> None:
        """A ping was sent, or a pong arrived or is missing; DEBUG.

        Args:
            event: what happened, such as ``missed``.
            client_id: the client concerned.
            fields: additional fields.
        """
        self._log(
            logging.DEBUG, f"% heartbeat {event}: {quoted(client_id)}", event=event, client_id=client_id, **fields
        )

    def log_broadcast(self, total: int, succeeded: int, failed: int, **fields: Any) -> None:
        """A broadcast is complete; DEBUG, or WARNING if a delivery failed.

        Args:
            total: connections in the audience.
            succeeded: deliveries that happened.
            failed: deliveries that did not.
            fields: additional fields.
        """
        level, mark = (logging.WARNING, "!") if failed else (logging.DEBUG, ">")
        counts = {"total": total, "succeeded": succeeded, "failed": failed}
        self._log(level, f"{mark} broadcast to {total}: {succeeded} succeeded, {failed} failed", **counts, **fields)

    def log_token(self, event: str, client_id: str, **fields: Any) -> None:
        """A reconnect token was issued, used or refused; DEBUG. Never pass the token itself.

        Args:
            event: what happened, such as ``issued``.
            client_id: the client that may use the token.
            fields: additional fields.
        """
        self._log(logging.DEBUG, f"- token {event}: {quoted(client_id)}", event=event, client_id=client_id, **fields)

    def log_error(self, error_type: str, client_id: str | None, error_message: str, **fields: Any) -> None:
        """Something failed; ERROR.

        Args:
            error_type: name of the class of the error.
            client_id: the client concerned; ``None`` for none in particular.
            error_message: the text of the error.
            fields: additional fields.
        """
        named = {"error_type": error_type, "client_id": client_id, "error_message": error_message}
        whom = None if client_id is None else quoted(client_id)
        self._log(logging.ERROR, f"! {error_type} for {whom}: {error_message}", **named, **fields)

    def _log(self, level: int, sentence: str, /, **fields: Any) -> None:
        if self.logger.isEnabledFor(level):
            # `logging` raises KeyError for a field that a record has itself.
            extra = _without_clash(fields, RECORD_FIELDS)
            # The sentence is an argument, because a client id may hold a percent sign. Three levels up is the caller of
            # the public method, whose place in the source a line should name.
            self.logger.log(level, "%s", sentence, extra=extra, stacklevel=3)
