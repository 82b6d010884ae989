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
        message: text and bytes stay unchanged, ``bytearray`` and ``memoryview`` become bytes,
            ``dict``, ``list`` and ``tuple`` become the same JSON text as with Starlette's ``send_json``,
            and a pydantic model becomes its own JSON text.

    Returns:
        ``str`` for a text message, ``bytes`` for a binary one.

    Raises:
        TypeError: the message is of another type, or a ``dict`` or ``list`` has a value that JSON cannot express.
        ValueError: a ``dict`` or ``list`` contains itself.
    """
    if isinstance(message, str):
        # Not str(message): for an enum derived from str, that is the name of the member.
        return str.__str__(message)
    if isinstance(message, bytes):
        return message
    if isinstance(message, (bytearray, memoryview)):
        return bytes(message)
    if isinstance(message, (dict, list, tuple)):
        return dumps(message, separators=(",", ":"), ensure_ascii=False)
    return _encode_model(message)


def _encode_model(message: Model) -> str:
    # Looked up on the class of the message: an instance of a test double has every attribute, and a model class that
    # is passed itself is no model.
    to_json = getattr(type(message), "model_dump_json", None)
    if to_json is None:
        raise TypeError(
            "a message must be str, bytes, bytearray, memoryview, dict, list, tuple "
            f"or a pydantic model, not {type(message).__name__}"
        )
    return str(to_json(message))
