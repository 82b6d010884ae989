"""Tokens: signed proofs of a client id, good for one reconnect.

A token is ``b64url(client_id).nonce.expiry_ms.signature``: its holder can read it, and only a holder of
the key can make one. Any process with the same key accepts it. Only the accepting process knows that
a token was used, so single use across processes depends on how requests are routed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from heapq import heappop, heappush

from itsdangerous import BadSignature, Signer

from ..errors import InvalidTokenError, TokenExpiredError

__all__ = ["MAX_TOKEN_LENGTH", "ReconnectTokens"]

MAX_TOKEN_LENGTH = 4096
"""Most characters of a token, which travels in a header or request line; proxies allow 4 to 8 KiB for one."""

TOKEN = re.compile(r"[\w-]*(?:\.[\w-]+){3}", re.ASCII)
"""Four parts in the alphabet of base64url; only the client id may be empty."""

NONCE_BYTES = 16
SALT = b"wsstab.reconnect"


class ReconnectTokens:
    """Makes and checks reconnect tokens, and remembers those that were used until they expire.

    Args:
        keys: secret keys, newest first: the first one signs, all of them verify. One string is one key.
        ttl_ms: how long a token is valid, in milliseconds.
        max_used: used tokens to remember; 100,000. No token is accepted while that many are remembered.

    Raises:
        ValueError: there is no key, an empty key, a negative ``ttl_ms``, or a ``max_used`` under 1.
    """

    def __init__(self, keys: Sequence[str], ttl_ms: int, max_used: int = 100_000) -> None:
        # A str is itself a sequence of str: taken apart, each letter would be a key.
        keys = [keys] if isinstance(keys, str) else list(keys)
        if not keys or not all(keys):
            raise ValueError("keys: must be at least one secret key, none of them empty")
        if ttl_ms < 0:
            raise ValueError(f"ttl_ms={ttl_ms}: must be 0 or more milliseconds")
        if max_used < 1:
            raise ValueError(f"max_used={max_used}: must be at least 1")
        # Reversed, because itsdangerous signs with its last key.
        self._signer = Signer(keys[::-1], salt=SALT, key_derivation="hmac", digest_method=hashlib.sha256)
        self._ttl_ms = ttl_ms
        self._max_used = max_used
        self._used: set[str] = set()
        self._expiries: list[tuple[int, str]] = []
        self._swept_ms = 0

    def issue(self, client_id: str, now_ms: int, ttl_ms: int | None = None) -> str:
        """Make a token.

        Args:
            client_id: the client that the token is for; any text, of about 3,000 bytes at most.
            now_ms: POSIX time in milliseconds.
            ttl_ms: how long the token is valid, in milliseconds; ``None`` for the constructor's value.

        Returns:
            The token, in four parts of ASCII letters, digits, ``-`` and ``_``, with dots between.

        Raises:
            ValueError: the token would be longer than 4096 characters, or expire before 1970.
        """
        expiry_ms = now_ms + (self._ttl_ms if ttl_ms is None else ttl_ms)
        if expiry_ms < 0:
            raise ValueError(f"expiry {expiry_ms}: must be 0 or more milliseconds")
        unsigned = f"{_encode(client_id)}.{secrets.token_urlsafe(NONCE_BYTES)}.{expiry_ms}"
        token = self._signer.sign(unsigned).decode("ascii")
        if len(token) > MAX_TOKEN_LENGTH:
            raise ValueError(f"client id of {len(client_id)} characters: too long for a token")
        return token

    def validate(self, token: str, now_ms: int) -> str:
        """Accept a token; each is accepted once.

        Args:
            token: text from a client, of any form.
            now_ms: POSIX time in milliseconds. When the clock was set back, the time of the latest
                sweep counts instead, so that no forgotten token becomes valid again.

        Returns:
            The client id.

        Raises:
            InvalidTokenError: ``malformed``, ``signature`` (not made with one of the keys), ``used``,
                or ``full`` (too many used tokens to remember this one).
            TokenExpiredError: ``now_ms`` is at or after its expiry.
        """
        client_id, nonce, expiry_ms = self._open(token)
        now_ms = max(now_ms, self._swept_ms)
        if now_ms >= expiry_ms:
            raise TokenExpiredError(now_ms - expiry_ms)
        if nonce in self._used:
            raise InvalidTokenError("used")
        self._remember(nonce, expiry_ms, now_ms)
        return client_id

    def sweep(self, now_ms: int) -> int:
        """Forget used tokens that have expired.

        Args:
            now_ms: POSIX time in milliseconds.

        Returns:
            How many were forgotten; the cost depends on these and not on those that stay.
        """
        self._swept_ms = max(self._swept_ms, now_ms)
        before = len(self._used)
        while self._expiries and self._expiries[0][0] <= self._swept_ms:
            self._used.discard(heappop(self._expiries)[1])
        return before - len(self._used)

    def _open(self, token: str) -> tuple[str, str, int]:
        # The signature is checked before any part is read: only our own text ever reaches the parser.
        if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH or not TOKEN.fullmatch(token):
            raise InvalidTokenError("malformed")
        try:
            unsigned = self._signer.unsign(token).decode("ascii")
        except BadSignature:
            raise InvalidTokenError("signature") from None
        return _parse(unsigned)

    def _remember(self, nonce: str, expiry_ms: int, now_ms: int) -> None:
        if len(self._used) >= self._max_used:
            self.sweep(now_ms)
        if len(self._used) >= self._max_used:
            # Not the oldest nonce in exchange: its token would become valid again.
            raise InvalidTokenError("full")
        self._used.add(nonce)
        heappush(self._expiries, (expiry_ms, nonce))


def _parse(unsigned: str) -> tuple[str, str, int]:
    """The client id, nonce and expiry of a text whose signature is good.

    A program that shares the key may have signed some other text with it; that is malformed.
    """
    try:
        name, nonce, expiry_ms = unsigned.split(".")
        return _decode(name), nonce, int(expiry_ms)
    except ValueError:
        raise InvalidTokenError("malformed") from None


def _encode(client_id: str) -> str:
    # A client id may hold lone surrogates, which plain UTF-8 refuses.
    return urlsafe_b64encode(client_id.encode("utf-8", "surrogatepass")).rstrip(b"=").decode("ascii")


def _decode(name: str) -> str:
    return urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode("utf-8", "surrogatepass")
