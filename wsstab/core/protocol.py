"""Protocol: what travels in wsstab.v1, the subprotocol that outlives a TCP connection.

A client offers a session in ``Sec-WebSocket-Protocol``. After the accept, control messages travel between the data
messages of the application: a control message is a text that begins with U+001E, and a text of the application that
begins with U+001E gets one more in front. ``docs/protocol.md`` says what each message means.

Both sides use this module. It parses and builds, and decides nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NoReturn, TypeAlias

__all__ = [
    "ESCAPE",
    "SUBPROTOCOL",
    "Ack",
    "Again",
    "Bye",
    "Control",
    "Gap",
    "Hello",
    "Offer",
    "Outcome",
    "Ping",
    "Pong",
    "ViolationError",
    "escaped",
    "is_control",
    "negotiate",
    "parse_control",
    "parse_offer",
    "unescaped",
]

SUBPROTOCOL = "wsstab.v1"
ESCAPE = "\x1e"
"""U+001E, the record separator of ASCII. No JSON text and no XML document begins with it."""
LONGEST_OFFER = 140
"""Bytes of the longest offer."""
LONGEST_CONTROL = 4096
"""Bytes of the longest control message, as UTF-8."""
LARGEST_NUMBER = 10**15 - 1
"""15 decimal digits: every number in the protocol is exact in JavaScript, too."""

OFFER = re.compile(
    r"wsstab\.(?:"
    r"new\.(?P<new_attempt>[1-9][0-9]{0,14})\.(?P<new_next>[A-Za-z0-9_-]{22})"
    r"|resume\.(?P<session>[A-Za-z0-9_-]{1,48})\.(?P<attempt>[1-9][0-9]{0,14})\.(?P<received>0|[1-9][0-9]{0,14})"
    r"(?:\.(?P<next>[A-Za-z0-9_-]{22}))?"
    r")",
    re.ASCII,
)
NAME = re.compile(r"[A-Za-z0-9_-]{1,48}", re.ASCII)
OFFERS = ("wsstab.new.", "wsstab.resume.")


class ViolationError(ValueError):
    """A control message breaks the protocol; its carrier is closed with 1002."""


class Outcome(str, Enum):
    """How a carrier begins."""

    FRESH = "fresh"
    """A new handler runs, and both sides count from 0."""
    RESUMED = "resumed"
    """The session goes on."""
    HANDOVER = "handover"
    """Another node goes on with the session: the counters hold, and a new handler runs."""


OUTCOMES = {outcome.value: outcome for outcome in Outcome}

Again: TypeAlias = Literal["resume", "new"] | None
"""Whether a client comes back after a `Bye`: to the same session, to a new one, or never."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client offers in its handshake. Both names are secrets, so its representation leaves them out.

    Args:
        attempt: number of this attempt of the client, from 1; no other attempt of the client has it.
        next: the client's own name for the session to begin; ``None`` for a client that is about to close.
        session: the server's name of the session to resume; ``None`` to begin one.
        received: how many data messages of that session the client has received.
    """

    attempt: int
    next: str | None = field(default=None, repr=False)
    session: str | None = field(default=None, repr=False)
    received: int = 0

    def __str__(self) -> str:
        """The offer as a token of ``Sec-WebSocket-Protocol``."""
        if self.session is None:
            return f"wsstab.new.{self.attempt}.{self.next}"
        resume = f"wsstab.resume.{self.session}.{self.attempt}.{self.received}"
        return resume if self.next is None else f"{resume}.{self.next}"


def parse_offer(token: str) -> Offer | None:
    """The offer in a token of ``Sec-WebSocket-Protocol``; ``None`` if it is not a well-formed offer."""
    match = OFFER.fullmatch(token) if len(token) <= LONGEST_OFFER else None
    if match is None:
        return None
    if match["session"] is None:
        return Offer(int(match["new_attempt"]), match["new_next"])
    return Offer(int(match["attempt"]), match["next"], match["session"], int(match["received"]))


def negotiate(offered: Iterable[str]) -> tuple[list[str], Offer | None]:
    """Separate the subprotocols of the application from what the client offers to this package.

    Args:
        offered: the subprotocols of the handshake, in their order. One element may hold several, separated by commas,
            because some servers do not split the header.

    Returns:
        The subprotocols of the application; the offer, or ``None`` for a plain client. A client is plain unless it
        offers `SUBPROTOCOL` and exactly one offer, which is well formed.
    """
    tokens = [token for element in offered for token in map(str.strip, element.split(",")) if token]
    offers = [token for token in tokens if token.startswith(OFFERS)]
    application = [token for token in tokens if token != SUBPROTOCOL and not token.startswith(OFFERS)]
    return application, parse_offer(offers[0]) if len(offers) == 1 and SUBPROTOCOL in tokens else None


# Messages.


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a carrier, from the server: how the carrier begins.

    Args:
        session: the server's name of the session. It is a secret.
        outcome: whether the session is new.
        received: how many data messages of this session the server has received.
        lost: how many messages of this session policies have dropped, in all; ``None`` if that is not known.
        ping: milliseconds without a sign of life after which the server pings.
        timeout: milliseconds without an answer after which the server gives up.
        window: milliseconds for which the server keeps a session without a carrier.
        ack: messages and bytes after which an acknowledgement is due.
        max: bytes of the largest message that the server takes; ``None`` for no limit.
        protocol: the subprotocol that the handler selected; ``None`` for none.
        why: why the session is new although the client asked for another; ``None`` if it did not.
    """

    session: str = field(repr=False)
    outcome: Outcome
    received: int
    lost: int | None
    ping: int
    timeout: int
    window: int
    ack: tuple[int, int]
    max: int | None
    protocol: str | None = None
    why: str | None = None

    def __str__(self) -> str:
        """The message as text."""
        message = {
            "t": "hello",
            "session": self.session,
            "outcome": self.outcome.value,
            "h": self.received,
            "lost": self.lost,
            "ping": self.ping,
            "timeout": self.timeout,
            "window": self.window,
            "ack": self.ack,
            "max": self.max,
        }
        if self.protocol is not None:
            message["protocol"] = self.protocol
        if self.why is not None:
            message["why"] = self.why
        return _text(message)


@dataclass(frozen=True, slots=True)
class Ack:
    """An acknowledgement, from either side.

    Args:
        received: how many data messages of this session the sender of this message has received.
    """

    received: int

    def __str__(self) -> str:
        """The message as text."""
        return f'{ESCAPE}{{"t":"ack","h":{self.received}}}'


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks whether the other side is there, from either side.

    Args:
        received: as in `Ack`.
    """

    received: int

    def __str__(self) -> str:
        """The message as text."""
        return f'{ESCAPE}{{"t":"ping","h":{self.received}}}'


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a `Ping`.

    Args:
        received: as in `Ack`.
    """

    received: int

    def __str__(self) -> str:
        """The message as text."""
        return f'{ESCAPE}{{"t":"pong","h":{self.received}}}'


@dataclass(frozen=True, slots=True)
class Gap:
    """Tells the client, before its next message, that policies have dropped messages.

    Args:
        lost: how many messages of this session policies have dropped, in all.
    """

    lost: int

    def __str__(self) -> str:
        """The message as text."""
        return f'{ESCAPE}{{"t":"gap","lost":{self.lost}}}'


@dataclass(frozen=True, slots=True)
class Bye:
    """The last message of the server on a carrier: why it lets go.

    Args:
        code: as in a close frame.
        reason: as in a close frame.
        again: whether the client comes back.
        retry_after: milliseconds after which it comes back; ``None`` for its own back-off.
    """

    code: int
    reason: str = ""
    again: Again = None
    retry_after: int | None = None

    def __str__(self) -> str:
        """The message as text."""
        message = {"t": "bye", "code": self.code, "reason": self.reason, "again": self.again}
        if self.retry_after is not None:
            message["retry_after"] = self.retry_after
        return _text(message)


Control: TypeAlias = Hello | Ack | Ping | Pong | Gap | Bye


def is_control(text: str) -> bool:
    """Whether a text is a control message and not data of the application."""
    return text[:1] == ESCAPE and text[1:2] != ESCAPE


def escaped(text: str) -> str:
    """A text of the application as it travels."""
    return ESCAPE + text if text[:1] == ESCAPE else text


def unescaped(text: str) -> str:
    """A text that travelled, which is no control message, as the application gave it."""
    return text[1:] if text[:1] == ESCAPE else text


def parse_control(text: str) -> Control | None:
    """Parse a control message.

    Args:
        text: the message; it begins with `ESCAPE`.

    Returns:
        The message; ``None`` for one whose ``t`` is not known, which is ignored, as keys that are not known are.

    Raises:
        ViolationError: it is malformed, or longer than 4 KiB.
    """
    if len(text) > LONGEST_CONTROL or (not text.isascii() and len(text.encode("utf-8", "replace")) > LONGEST_CONTROL):
        raise ViolationError("control message over 4 KiB")
    try:
        message = _DECODER.decode(text[1:])
    # The parser recurses into each bracket of a nested value.
    except (ValueError, RecursionError):
        raise ViolationError("control message is not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("t"), str):
        raise ViolationError("control message without a type")
    parse = _PARSERS.get(message["t"])
    return None if parse is None else parse(message)


def _hello(message: dict[str, Any]) -> Hello:
    session, outcome, ack = message.get("session"), message.get("outcome"), message.get("ack")
    if not isinstance(session, str) or not NAME.fullmatch(session):
        raise ViolationError("hello without a session")
    if not isinstance(outcome, str) or outcome not in OUTCOMES:
        raise ViolationError("hello without an outcome")
    if not isinstance(ack, list) or len(ack) != 2:
        raise ViolationError("hello without the bounds of acknowledgements")
    return Hello(
        session,
        OUTCOMES[outcome],
        _number(message, "h"),
        _number_or_none(message, "lost"),
        _number(message, "ping"),
        _number(message, "timeout"),
        _number(message, "window"),
        (_natural("ack", ack[0]), _natural("ack", ack[1])),
        _number_or_none(message, "max"),
        _text_or_none(message, "protocol"),
        _text_or_none(message, "why"),
    )


def _bye(message: dict[str, Any]) -> Bye:
    again = message.get("again")
    if again not in ("resume", "new", None):
        raise ViolationError("bye with an unknown value of 'again'")
    reason = _text_or_none(message, "reason") or ""
    return Bye(_number(message, "code"), reason, again, _number_or_none(message, "retry_after"))


_PARSERS: dict[str, Any] = {
    "hello": _hello,
    "ack": lambda message: Ack(_number(message, "h")),
    "ping": lambda message: Ping(_number(message, "h")),
    "pong": lambda message: Pong(_number(message, "h")),
    "gap": lambda message: Gap(_number(message, "lost")),
    "bye": _bye,
}


def _number(message: dict[str, Any], key: str) -> int:
    return _natural(key, message.get(key))


def _number_or_none(message: dict[str, Any], key: str) -> int | None:
    value = message.get(key)
    return None if value is None else _natural(key, value)


def _natural(key: str, value: object) -> int:
    # Neither 1.0 nor true: what JSON.stringify makes of a counter is an integer.
    if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
        raise ViolationError(f"control message with a wrong {key!r}")
    return value


def _text_or_none(message: dict[str, Any], key: str) -> str | None:
    value = message.get(key)
    if value is not None and not isinstance(value, str):
        raise ViolationError(f"control message with a wrong {key!r}")
    return value


def _text(message: dict[str, Any]) -> str:
    return ESCAPE + json.dumps(message, separators=(",", ":"))


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(parse_constant=_not_json)
"""Made once: ``json.loads`` with an argument makes one for each message."""
