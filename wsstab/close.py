"""Every way in which a WebSocket ends, in one table.

A close is a code, a reason, who caused it, and whether the client should come
back. The table at the end contains each close that the stabilizer itself can
cause. The documentation, the events, the counters and the tests read it, so
that no close code is written twice.

Codes follow RFC 6455 section 7.4 and the IANA registry where one fits; codes
of the private range (4000 to 4999) follow the HTTP status that means the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum

__all__ = ["CLOSES", "Cause", "Close", "CloseCode", "clamp_code", "clamp_reason", "requested"]

MAX_REASON_BYTES = 123
"""A control frame carries 125 bytes, of which the code takes two (RFC 6455 section 5.5)."""


class CloseCode(IntEnum):
    """Close codes by name: RFC 6455 section 7.4.1, the IANA registry, and ours."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015
    IDLE_TIMEOUT = 4408
    DUPLICATE_CLIENT = 4409


NEVER_SENT = frozenset({1004, 1005, 1006, 1015})
"""Codes that describe how a connection ended and must not be sent in a frame (RFC 6455 section 7.4.1)."""


class Cause(str, Enum):
    """Who ended the connection."""

    APPLICATION = "application"
    """The handler returned, raised, or closed it."""
    CLIENT = "client"
    """The peer sent a close frame, or its TCP connection ended."""
    STABILIZER = "stabilizer"
    """A limit, a deadline or a drain of this package."""
    SERVER = "server"
    """The ASGI server ended it by itself."""


@dataclass(frozen=True)
class Close:
    """One way to end a connection.

    Args:
        code: close code, 1000 to 4999.
        reason: text for the peer; when it is sent, it is cut to 123 bytes of UTF-8,
            at the end of a character.
        cause: who ended the connection.
        reconnect: whether a client should come back; ``False`` is final.
        status: the HTTP status with the same meaning, for a refusal of the handshake.
        retry_after: seconds for the ``Retry-After`` header of that answer; ``None`` for no header.
    """

    code: int = CloseCode.NORMAL_CLOSURE
    reason: str = ""
    cause: Cause = Cause.APPLICATION
    reconnect: bool = False
    status: int = 403
    retry_after: int | None = None

    def because(self, reason: str) -> Close:
        """The same close with another reason."""
        return replace(self, reason=reason)

    def refusing(self) -> Close:
        """The same close caused by the stabilizer, which before accept sends an HTTP response with a body."""
        return replace(self, cause=Cause.STABILIZER)


def clamp_code(code: int) -> int:
    """The nearest code that may be sent in a close frame.

    Args:
        code: any number that a handler gave.

    Returns:
        ``code`` itself if RFC 6455 section 7.4.2 lets an endpoint send it; otherwise 1000 for codes that
        mean "nothing special" (0, 1005), and 1011 for all others.
    """
    if 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in NEVER_SENT):
        return int(code)
    return CloseCode.NORMAL_CLOSURE if code in (0, CloseCode.NO_STATUS_RECEIVED) else CloseCode.INTERNAL_ERROR


def requested(code: object, reason: object = "") -> Close:
    """A close that an application asks for; a code or reason that may not be sent is replaced.

    Args:
        code: the close code that it gave; ``None`` if it gave none.
        reason: the reason that it gave. FastAPI gives a list if a request does not validate.
    """
    allowed = clamp_code(code) if isinstance(code, int) else CloseCode.NORMAL_CLOSURE
    if code is not None and not isinstance(code, int):
        allowed = CloseCode.INTERNAL_ERROR
    return Close(int(allowed), clamp_reason(str(reason or "")), Cause.APPLICATION)


def clamp_reason(reason: str | None) -> str:
    """``reason`` cut to 123 bytes of UTF-8 at a character, as RFC 6455 section 5.5 requires.

    Half of a surrogate pair, which UTF-8 cannot encode, becomes a question mark.
    """
    if not reason:
        return ""
    # ASCII has one byte for each character, so nothing needs to be encoded to cut it.
    if reason.isascii():
        return reason[:MAX_REASON_BYTES]
    return reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def _ours(code: CloseCode, reason: str, *, reconnect: bool, status: int = 403, retry_after: int | None = None) -> Close:
    return Close(code, reason, Cause.STABILIZER, reconnect, status, retry_after)


RETURNED = Close(CloseCode.NORMAL_CLOSURE, "", Cause.APPLICATION, reconnect=False)
"""The handler returned."""
RAISED = Close(CloseCode.INTERNAL_ERROR, "internal error", Cause.APPLICATION, reconnect=True, status=500)
"""The handler raised."""
VANISHED = Close(CloseCode.ABNORMAL_CLOSURE, "", Cause.CLIENT, reconnect=True)
"""The peer's TCP connection ended without a close frame."""
CANCELLED = Close(CloseCode.GOING_AWAY, "", Cause.SERVER, reconnect=True)
"""The server cancelled the handler."""
HEARTBEAT_TIMEOUT = _ours(CloseCode.ABNORMAL_CLOSURE, "heartbeat timeout", reconnect=True)
"""Nothing arrived for ``heartbeat_timeout`` after a ping."""
IDLE = _ours(CloseCode.IDLE_TIMEOUT, "idle timeout", reconnect=True)
"""No application message in either direction for ``idle_timeout``."""
TOO_OLD = _ours(CloseCode.SERVICE_RESTART, "maximum connection age", reconnect=True)
"""Older than ``max_connection_age``."""
NOT_ACCEPTED = _ours(CloseCode.TRY_AGAIN_LATER, "accept timeout", reconnect=True, status=503, retry_after=1)
"""The handler did not accept within ``accept_timeout``."""
MESSAGE_TOO_BIG = _ours(CloseCode.MESSAGE_TOO_BIG, "message too big", reconnect=False, status=413)
"""A message over ``max_message_size``."""
RATE_LIMITED = _ours(CloseCode.POLICY_VIOLATION, "rate limit exceeded", reconnect=True, status=429, retry_after=1)
"""More messages or bytes than ``rate_limit`` allows."""
UNFINISHED = _ours(CloseCode.POLICY_VIOLATION, "message not finished", reconnect=True, status=408)
"""The peer has begun a message, and sends no more of it."""
UNREAD = _ours(CloseCode.TRY_AGAIN_LATER, "handler does not read", reconnect=True, status=503, retry_after=1)
"""The handler has taken nothing for a minute, while far more was unread than its inbox holds."""
SLOW_CONSUMER = _ours(CloseCode.TRY_AGAIN_LATER, "slow consumer", reconnect=True, status=503, retry_after=1)
"""The peer reads more slowly than is sent to it, or not at all."""
EVICTED = _ours(CloseCode.TRY_AGAIN_LATER, "evicted: memory limit", reconnect=True, status=503, retry_after=5)
"""Closed to bring memory back under its limit."""
DUPLICATE_CLIENT = _ours(CloseCode.DUPLICATE_CLIENT, "replaced by a newer connection", reconnect=False, status=409)
"""Another connection took over, or already holds, this client id."""
CONNECTION_LIMIT = _ours(
    CloseCode.TRY_AGAIN_LATER, "connection limit reached", reconnect=True, status=503, retry_after=5
)
"""``max_connections`` are open."""
ADDRESS_LIMIT = _ours(
    CloseCode.POLICY_VIOLATION, "too many connections from this address", reconnect=True, status=429, retry_after=10
)
"""``max_connections_per_address`` are open from this address."""
CLIENT_LIMIT = _ours(
    CloseCode.POLICY_VIOLATION, "too many connections of this client", reconnect=True, status=429, retry_after=10
)
"""``max_connections_per_client`` are open for this client id."""
ORIGIN_REFUSED = _ours(CloseCode.POLICY_VIOLATION, "origin not allowed", reconnect=False, status=403)
"""The page that opened the socket is not one of ``allowed_origins``."""
UNAUTHORIZED = _ours(CloseCode.POLICY_VIOLATION, "not authorized", reconnect=False, status=403)
"""``authorize`` said no."""
DRAINING = _ours(CloseCode.SERVICE_RESTART, "service restart", reconnect=True, status=503, retry_after=1)
"""The process is about to stop."""

CLOSES: dict[str, Close] = {name: value for name, value in list(globals().items()) if isinstance(value, Close)}
"""The table: each close of this package by its name."""
