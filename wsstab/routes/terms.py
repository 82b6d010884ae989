"""Terms: the options and the guards that apply to one handshake."""

from __future__ import annotations

from typing import NamedTuple

from ..config import Authorize, WebSocketConfig

__all__ = ["Terms"]


class Terms(NamedTuple):
    """The options and the guards that apply to one handshake.

    Args:
        config: the options.
        origins: values of ``allowed_origins``; all of them must allow the page.
        authorize: functions that must all let the WebSocket in; no two may return different client ids.
    """

    config: WebSocketConfig
    origins: tuple[str | tuple[str, ...], ...]
    authorize: tuple[Authorize, ...]

    @classmethod
    def of(cls, config: WebSocketConfig) -> Terms:
        """The terms of one configuration."""
        origins = config.allowed_origins
        kept = origins if isinstance(origins, str) else tuple(origins)
        return cls(config, (kept,), () if config.authorize is None else (config.authorize,))

    def without(self, passed: Terms) -> Terms:
        """These terms without the guards that ``passed`` has checked already."""
        origins = tuple(each for each in self.origins if each not in passed.origins)
        return Terms(self.config, origins, tuple(each for each in self.authorize if each not in passed.authorize))

    def joined(self, others: Terms) -> Terms:
        """The guards of both, with the options of ``self``."""
        more = others.without(self)
        return Terms(self.config, self.origins + more.origins, self.authorize + more.authorize)
