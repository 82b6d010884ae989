"""Payloads: which messages may be sent, and how they are encoded."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.websockets import WebSocket, WebSocketState

from wsstab.payload import encode


class Point(BaseModel):
    """A pydantic model of an application."""

    x: int
    name: str = "é"


class Colour(str, Enum):
    """A string whose ``str()`` differs from its value."""

    RED = "red"


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        ("", ""),
        ("héllo", "héllo"),
        (Colour.RED, "red"),
        (b"", b""),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcdef")[::2], b"ace"),
        ({}, "{}"),
        ({"a": [1, None, True], "é": "😀"}, '{"a":[1,null,true],"é":"😀"}'),
        ([], "[]"),
        ((1, "x"), '[1,"x"]'),
        (Point(x=1), '{"x":1,"name":"é"}'),
    ],
)
def test_each_kind_of_message_becomes_text_or_bytes(message: Any, encoded: str | bytes) -> None:
    """Text and bytes stay as they are; everything else becomes JSON."""
    assert encode(message) == encoded
    assert type(encode(message)) is type(encoded)


@pytest.mark.parametrize("message", [None, 1, 1.5, True, {1, 2}, object(), iter("x"), Point, Mock(), dict])
def test_a_message_of_another_type_is_refused_with_a_list_of_the_allowed_ones(message: Any) -> None:
    """A mock that has every attribute does not count as a pydantic model, and neither does a class."""
    with pytest.raises(TypeError, match="must be str, bytes, bytearray, memoryview, dict, list, tuple or a pydantic"):
        encode(message)


@pytest.mark.parametrize(("message", "error"), [({"a": object()}, TypeError), ([{1}], TypeError)])
def test_a_value_that_json_cannot_hold_raises_the_error_of_json(message: Any, error: type[Exception]) -> None:
    """The value is inside of a dict or a list."""
    with pytest.raises(error, match="not JSON serializable"):
        encode(message)


def test_a_message_that_contains_itself_is_refused() -> None:
    """The error is that of ``json``."""
    message: list[Any] = []
    message.append(message)
    with pytest.raises(ValueError, match="Circular"):
        encode(message)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(message=st.lists(JSON_VALUES, max_size=4) | st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=4))
def test_json_is_encoded_by_the_rule_of_starlette(message: Any) -> None:
    """For every value that ``send_json`` takes."""
    assert encode(message) == json.dumps(message, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.anyio
async def test_starlette_itself_sends_the_same_json() -> None:
    """The test above compares with a copy of Starlette's rule; this one runs Starlette."""
    message = {"é": [1, 2.5, None], "b": {"c": "😀"}}
    sent: list[Any] = []

    async def receive() -> Any:
        raise NotImplementedError

    async def send(event: Any) -> None:
        sent.append(event)

    websocket = WebSocket({"type": "websocket"}, receive, send)
    websocket.client_state = websocket.application_state = WebSocketState.CONNECTED
    await websocket.send_json(message)
    assert sent == [{"type": "websocket.send", "text": encode(message)}]
