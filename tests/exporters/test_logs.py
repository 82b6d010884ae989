"""Logs: names, set-up, JSON lines, and the fields that come with them."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsstab import WebSocketConfig, WebSocketConnectionManager
from wsstab.close import Cause
from wsstab.exporters.logs import RECORD_FIELDS, JSONFormatter, StructuredLogger, configure_logging, get_logger
from wsstab.levels import is_heard, suggest_level
from wsstab.wording import LONGEST_WORD, as_in_url, quoted

PATIENT = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
"""The first text in a new checkout takes a second: a table of all characters is made."""


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """The logger of the package, put back as it was."""
    logger = logging.getLogger("wsstab")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield logger
    logger.handlers[:], level, logger.propagate = before[0], before[1], before[2]
    logger.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """JSON lines, parsed."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def formatted(**fields: Any) -> dict[str, Any]:
    """One record with these attributes as the JSON formatter writes it, refusing what is not JSON."""
    line = JSONFormatter().format(logging.makeLogRecord({"msg": "m", **fields}))
    assert "\n" not in line
    assert line.isascii()
    parsed: dict[str, Any] = json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    return parsed


@pytest.mark.parametrize(
    ("name", "full"),
    [
        (None, "wsstab"),
        ("", "wsstab"),
        ("wsstab", "wsstab"),
        ("wsstab.drain", "wsstab.drain"),
        ("drain", "wsstab.drain"),
        ("wsstabby", "wsstab.wsstabby"),
    ],
)
def test_every_logger_is_ours_or_a_child_of_it(name: str | None, full: str) -> None:
    """A name without our prefix gets it."""
    assert get_logger(name) is logging.getLogger(full)


def test_no_handler_is_installed_by_default(logger: logging.Logger) -> None:
    """An application has its own handlers, and warnings must reach them."""
    assert logger.handlers == []
    assert logger.propagate


def test_plain_lines_are_written_to_the_stream(logger: logging.Logger) -> None:
    """A line has the time, the level, the logger and the message."""
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    get_logger("drain").info("round %d", 1)
    get_logger().debug("below the level")
    assert re.fullmatch(r"\S+ \S+ INFO     wsstab\.drain round 1\n", stream.getvalue())
    assert not logger.propagate


def test_a_second_setup_replaces_the_first(logger: logging.Logger) -> None:
    """No line is written twice, and the handlers of others stay."""
    others = logging.NullHandler()
    logger.addHandler(others)
    first, second = io.StringIO(), io.StringIO()
    configure_logging(stream=first)
    configure_logging("DEBUG", json=True, stream=second)
    get_logger().debug("hello")
    assert first.getvalue() == ""
    assert [line["message"] for line in lines(second)] == ["hello"]
    assert len(logger.handlers) == 2
    assert others in logger.handlers


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the application."""
    configure_logging()
    get_logger().info("hello")
    captured = capsys.readouterr()
    assert captured.err.endswith("hello\n")
    assert captured.out == ""


@pytest.mark.parametrize("level", ["", "LOUD", "NOTSET", 10, None])
def test_an_unknown_level_is_refused_and_changes_nothing(level: Any, logger: logging.Logger) -> None:
    """The error names the value and what is allowed."""
    with pytest.raises(ValueError, match=f"level={level!r}: must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"):
        configure_logging(level)
    assert logger.handlers == []


def test_a_json_line_has_time_level_logger_message_and_every_field() -> None:
    """The time in RFC 3339, UTC, with milliseconds."""
    moment = datetime(2024, 2, 29, 12, 30, 15, 123_456, timezone.utc).timestamp()
    assert formatted(name="wsstab.drain", levelname="INFO", created=moment, msg="é %s", args=("x",), closed=3) == {
        "time": "2024-02-29T12:30:15.123Z",
        "level": "INFO",
        "logger": "wsstab.drain",
        "message": "é x",
        "closed": 3,
    }


def test_a_json_line_has_milliseconds_even_if_they_are_zero() -> None:
    """Some parsers accept one format only."""
    assert formatted(created=0.0)["time"] == "1970-01-01T00:00:00.000Z"


def test_a_field_does_not_replace_a_standard_key_of_a_json_line() -> None:
    """Its name gets an underscore instead."""
    line = formatted(levelname="INFO", level="high", time="noon", logger="mine")
    assert (line["level"], line["level_"], line["time_"], line["logger_"]) == ("INFO", "high", "noon", "mine")


def cyclic() -> list[Any]:
    """A list that contains itself."""
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        ([1, {"a": True}], [1, {"a": True}]),
        (Cause.CLIENT, "client"),
        (b"x", "b'x'"),
        ({1}, "{1}"),
        ([datetime(2024, 1, 1)], ["2024-01-01 00:00:00"]),
        (float("nan"), "nan"),
        ([float("inf")], "[inf]"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (cyclic(), "[[...]]"),
    ],
)
def test_a_value_that_json_cannot_express_becomes_text(value: Any, written: Any) -> None:
    """Other fields are not affected."""
    line = formatted(value=value, moment=datetime(2024, 1, 1), number=1)
    assert (line["value"], line["moment"], line["number"]) == (written, "2024-01-01 00:00:00", 1)


@PATIENT
@given(fields=st.dictionaries(st.sampled_from(["a", "level", "é"]), st.floats() | st.text() | st.binary() | st.dates()))
def test_every_line_is_one_object_of_strict_json(fields: dict[str, Any]) -> None:
    """The fields may hold any values."""
    line = formatted(**fields)
    assert set(line) >= {"time", "level", "logger", "message"}


def test_tracebacks_and_stacks_are_text_in_the_same_line() -> None:
    """A log shipper reads line by line."""
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        get_logger().exception("failed", stack_info=True)
    (line,) = lines(stream)
    assert line["exc_info"].startswith("Traceback")
    assert line["exc_info"].endswith("RuntimeError: two\nlines")
    assert line["stack_info"].startswith("Stack (most recent call last)")


def test_every_attribute_of_a_log_record_is_a_known_reserved_name() -> None:
    """``logging`` raises ``KeyError`` for a field with such a name."""
    record = get_logger().makeRecord("n", logging.INFO, "f", 1, "m", (), None)
    assert set(vars(record)) <= RECORD_FIELDS


Call = Callable[[StructuredLogger], None]


@pytest.mark.parametrize(
    ("call", "level", "message", "fields"),
    [
        (
            lambda log: log.log_connection("opened", "ann", path="/ws"),
            "INFO",
            "connection opened: 'ann'",
            {"event": "opened", "client_id": "ann", "path": "/ws"},
        ),
        (
            lambda log: log.log_heartbeat("missed", "ann", silent_for=2.5),
            "DEBUG",
            "% heartbeat missed: 'ann'",
            {"event": "missed", "client_id": "ann", "silent_for": 2.5},
        ),
        (
            lambda log: log.log_broadcast(3, 3, 0),
            "DEBUG",
            "> broadcast to 3: 3 succeeded, 0 failed",
            {"total": 3, "succeeded": 3, "failed": 0},
        ),
        (
            lambda log: log.log_broadcast(3, 2, 1, room="lobby"),
            "WARNING",
            "! broadcast to 3: 2 succeeded, 1 failed",
            {"total": 3, "succeeded": 2, "failed": 1, "room": "lobby"},
        ),
        (
            lambda log: log.log_token("used", "ann", seconds_left=1),
            "DEBUG",
            "- token used: 'ann'",
            {"event": "used", "client_id": "ann", "seconds_left": 1},
        ),
        (
            lambda log: log.log_error("OSError", "ann", "gone", code=1006),
            "ERROR",
            "! OSError for 'ann': gone",
            {"error_type": "OSError", "client_id": "ann", "error_message": "gone", "code": 1006},
        ),
        (
            lambda log: log.log_error("OSError", None, "gone"),
            "ERROR",
            "! OSError for None: gone",
            {"error_type": "OSError", "client_id": None, "error_message": "gone"},
        ),
    ],
    ids=["connection", "heartbeat", "broadcast", "failed broadcast", "token", "error", "error of nobody"],
)
def test_each_log_method_writes_one_line_with_its_fields(
    call: Call, level: str, message: str, fields: dict[str, Any]
) -> None:
    """The line has a level and a message, and every detail as a field."""
    stream = io.StringIO()
    configure_logging("DEBUG", json=True, stream=stream)
    call(StructuredLogger(get_logger("test")))
    (line,) = lines(stream)
    assert line.pop("time")
    assert line == {"level": level, "logger": "wsstab.test", "message": message, **fields}


def test_a_field_with_a_reserved_name_gets_an_underscore() -> None:
    """Otherwise ``logging`` would raise ``KeyError`` in the middle of a connection."""
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    names = sorted(RECORD_FIELDS | {"level", "sentence", "message"})
    StructuredLogger(get_logger()).log_connection("opened", "ann", **dict.fromkeys(names, "mine"))
    (line,) = lines(stream)
    assert line["message"] == "connection opened: 'ann'"
    assert {line["sentence"], *(line[f"{name}_"] for name in names if name != "sentence")} == {"mine"}


def test_no_record_is_made_for_a_line_below_the_level() -> None:
    """At INFO, a DEBUG line costs no record and is not written."""
    made: list[str] = []
    factory = logging.getLogRecordFactory()

    def noting(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        made.append(record.getMessage())
        return record

    stream = io.StringIO()
    configure_logging("INFO", stream=stream)
    logging.setLogRecordFactory(noting)
    try:
        StructuredLogger(get_logger()).log_heartbeat("sent", "ann")
        assert (made, stream.getvalue()) == ([], "")
        StructuredLogger(get_logger()).log_connection("opened", "ann")
        assert made == ["connection opened: 'ann'"]
    finally:
        logging.setLogRecordFactory(factory)


def test_a_client_id_can_neither_forge_a_line_nor_act_as_a_format() -> None:
    """It may come from a URL that a stranger wrote."""
    stream = io.StringIO()
    configure_logging(stream=stream)
    StructuredLogger(get_logger()).log_connection("opened", "ann\n2024 ERROR %s %d")
    assert stream.getvalue().endswith("connection opened: 'ann\\n2024 ERROR %s %d'\n")
    assert stream.getvalue().count("\n") == 1


def test_a_line_is_attributed_to_the_calling_function(caplog: pytest.LogCaptureFixture) -> None:
    """It is not attributed to the helper that formats it."""
    with caplog.at_level(logging.INFO, "wsstab"):
        StructuredLogger(get_logger()).log_connection("opened", "ann")
    assert caplog.records[0].funcName == sys._getframe().f_code.co_name


def test_a_line_is_heard_where_somebody_takes_it() -> None:
    """A logger without a handler anywhere still says warnings, as Python has it."""
    alone = logging.Logger("alone", logging.INFO)
    assert not is_heard(alone, logging.INFO)
    assert is_heard(alone, logging.WARNING)
    alone.addHandler(logging.NullHandler())
    assert is_heard(alone, logging.INFO)
    assert not is_heard(alone, logging.DEBUG)


@PATIENT
@given(text=st.text(), times=st.integers(1, 1000))
def test_text_from_strangers_becomes_one_bounded_printable_word(text: str, times: int) -> None:
    """A name is put in quotes, and a path contains no space."""
    name, path = quoted(text * times), as_in_url(text * times)
    assert name.isprintable()
    assert path.isascii()
    assert path.isprintable()
    assert not set(path) & set(" '\"")
    assert max(len(name), len(path)) <= LONGEST_WORD + 4
    assert path


def test_harmless_text_stays_unchanged() -> None:
    """Examples are addresses of both kinds, and names in other scripts."""
    assert [as_in_url(text) for text in ("/ws/ann", "203.0.113.7", "2001:db8::1", None, "")] == [
        *("/ws/ann", "203.0.113.7", "2001:db8::1", "-", "-")
    ]
    assert (quoted("Zoë 王"), quoted("x" * LONGEST_WORD)) == ("'Zoë 王'", f"'{'x' * LONGEST_WORD}'")
    assert as_in_url("/" * LONGEST_WORD) == "/" * LONGEST_WORD


def test_a_suggested_level_applies_only_where_none_is_configured(logger: logging.Logger) -> None:
    """A ``dictConfig`` of the application wins, early or late; of two managers, the later one wins."""
    logger.setLevel(logging.NOTSET)
    suggest_level("DEBUG")
    assert logger.level == logging.DEBUG
    WebSocketConnectionManager(WebSocketConfig(log_level="ERROR"))
    assert logger.level == logging.ERROR
    logging.config.dictConfig({"version": 1, "incremental": True, "loggers": {"wsstab": {"level": "WARNING"}}})
    WebSocketConnectionManager(WebSocketConfig(log_level="DEBUG"))
    assert logger.level == logging.WARNING
    configure_logging("INFO", stream=io.StringIO())
    WebSocketConnectionManager(WebSocketConfig(log_level="DEBUG"))
    assert logger.level == logging.INFO
