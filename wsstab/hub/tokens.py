"""Reconnect tokens for applications: the token machine with a clock, a key and events."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

from ..config import WebSocketConfig
from ..core.token import ReconnectTokens
from ..errors import InvalidTokenError, TokenExpiredError
from ..events import Event, TokenIssued, TokenRefused, TokenUsed

__all__ = ["TokenDesk"]

logger = logging.getLogger("wsstab")


class TokenDesk:
    """Issues and validates reconnect tokens.

    Args:
        config: gives ``secret_key``, ``reconnect_token_ttl`` and ``enable_reconnect``.
        emit: receives the events.
    """

    def __init__(self, config: WebSocketConfig, emit: Callable[[Event], None]) -> None:
        self._enabled = config.enable_reconnect
        self._lasting = config.secret_key is not None
        self._warned = False
        self._emit = emit
        ttl_ms = int(config.reconnect_token_ttl.total_seconds() * 1000)
        # A lifetime under a millisecond would be rounded to one that has always expired.
        self._tokens = ReconnectTokens(keys_of(config), max(ttl_ms, 1))

    def issue(self, client_id: str) -> str:
        """A new token for ``client_id``."""
        self._require_enabled()
        # At the first token and not at the start: an application without tokens needs no key.
        if not self._lasting and not self._warned:
            self._warned = True
            logger.warning("! no secret_key is set: reconnect tokens die with this process, and others refuse them")
        token = self._tokens.issue(client_id, now_ms())
        self._emit(TokenIssued(client_id))
        return token

    def validate(self, token: str) -> str:
        """The client id of ``token``; the token is used up."""
        self._require_enabled()
        try:
            client_id = self._tokens.validate(token, now_ms())
        except InvalidTokenError as error:
            self._emit(TokenRefused(error.why))
            raise
        except TokenExpiredError:
            self._emit(TokenRefused("expired"))
            raise
        self._emit(TokenUsed(client_id))
        return client_id

    def sweep(self) -> None:
        """Forget used tokens that have expired."""
        self._tokens.sweep(now_ms())

    def _require_enabled(self) -> None:
        if not self._enabled:
            raise InvalidTokenError("reconnect tokens are off (enable_reconnect=False)")


def keys_of(config: WebSocketConfig) -> list[str]:
    """The signing keys, newest first; a random key if none is configured."""
    if config.secret_key is None:
        return [secrets.token_urlsafe(32)]
    return [config.secret_key] if isinstance(config.secret_key, str) else list(config.secret_key)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
