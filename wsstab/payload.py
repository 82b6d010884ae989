"""Payloads: the types that may be sent, and their encoding as text or bytes."""

from __future__ import annotations

from json import dumps
from typing import Any, Protocol, TypeAlias

__all__ = ["Model", "Payload", "encode"]


class Model(Protocol):
    """An object that serializes itself to JSON text: a pydantic model, version 2."""

    def model_dump_json(self) -> str:
        """The model as JSON."""
        ...


Payload: TypeAlias = str | bytes | bytearray | memoryview | dict[str, Any] | list[Any] | tuple[Any, ...] | Model
"""What may be sent: text, binary data, or something that becomes JSON text."""


def encode(message: Payload) -> str | bytes:
    """A message as text or as binary data.

    Args:
        message: text and bytes stay what they are, ``bytearray`` and ``memoryview`` become bytes,
            ``dict``, ``list`` and ``tuple`` become the JSON text that Starlette's ``send_json``
            makes, a pydantic model becomes its own.

    Returns:
        ``str`` for a text message, ``bytes`` for a binary one.

    Raises:
        TypeError: anything else, or something within a ``dict`` or ``list`` that JSON does not have.
        ValueError: a ``dict`` or ``list`` that contains itself.
    """
    if isinstance(message, str):
        # Not str(message): an enum that is a str would give its name.
        return str.__str__(message)
    if isinstance(message, bytes):
        return message
    if isinstance(message, (bytearray, memoryview)):
        return bytes(message)
    if isinstance(message, (dict, list, tuple)):
        return dumps(message, separators=(",", ":"), ensure_ascii=False)
    return _encode_model(message)


def _encode_model(message: Model) -> str:
    # Looked up on the class: a test double has every attribute, and a class is not a model.
    to_json = getattr(type(message), "model_dump_json", None)
    if to_json is None:
        raise TypeError(
            "a message must be str, bytes, bytearray, memoryview, dict, list, tuple "
            f"or a pydantic model, not {type(message).__name__}"
        )
    return str(to_json(message))
