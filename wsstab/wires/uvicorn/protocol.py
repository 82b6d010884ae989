"""A protocol class for uvicorn, for applications with other middleware around ours."""

from __future__ import annotations

from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ...types import Itself
from .base import EXTENSION

__all__ = ["Protocol"]


class Protocol(Itself, WebSocketsSansIOProtocol):
    """``uvicorn --ws wsstab.wires.uvicorn:Protocol``: the default one, found even behind other middleware."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            # The application's task has not started yet.
            extensions: dict[str, Any] = cast("dict[str, Any]", self.scope)["extensions"]
            extensions[EXTENSION] = self
