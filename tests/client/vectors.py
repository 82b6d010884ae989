"""The test vectors of wsstab.v1: reads them, spells out their shorthands, and writes them in their one format.

``python -m tests.client.vectors`` formats the files again after a change. Their README describes what is in them.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import wsstab
from wsstab.client.actions import Message
from wsstab.core.protocol import ESCAPE, is_control

__all__ = [
    "FILES",
    "FOLDER",
    "Json",
    "bare",
    "formatted",
    "groups",
    "message_of",
    "read",
    "shown",
    "spelt_out",
    "text_of",
]

FOLDER = Path(wsstab.__file__).parent / "client" / "vectors"
FILES = ("messages.json", "client.json", "server.json")

Json = dict[str, Any]
"""An object of JSON."""


def read(name: str) -> Json:
    """The content of a file of vectors."""
    content: Json = json.loads((FOLDER / name).read_text("utf-8"))
    return content


def groups(name: str) -> list[list[Json]]:
    """The groups of vectors in a file."""
    return [group for group in read(name).values() if isinstance(group, list) and isinstance(group[0], dict)]


# What is written short.


def text_of(written: str | list[str | Json]) -> str:
    """A text: as it stands, or in parts, of which some are repeated."""
    parts = [written] if isinstance(written, str) else written
    return "".join(part if isinstance(part, str) else part["repeat"] * part["times"] for part in parts)


def message_of(written: str | Json, hello: Json) -> Message:
    """A message as it travels, or as the application gives it.

    Args:
        written: the message in a vector.
        hello: the fields of a hello that a vector does not change.
    """
    if isinstance(written, str):
        return written
    if "base64" in written:
        return b64decode(written["base64"])
    if "text" in written:
        return text_of(written["text"])
    control = hello | written["hello"] if "hello" in written else written["control"]
    return ESCAPE + json.dumps(control)


def shown(message: Message) -> object:
    """A message as a vector may write it, so that two of them can be compared: a control message by its fields."""
    if isinstance(message, bytes):
        return {"base64": b64encode(message).decode()}
    if not is_control(message):
        return message
    try:
        return {"control": bare(json.loads(message[1:]))}
    except ValueError:
        # On an ordinary WebSocket it is a text like any other.
        return message


def spelt_out(action: Json, hello: Json) -> list[Json]:
    """An expected action without shorthands, as often as it is expected.

    Args:
        action: the action.
        hello: the fields of a hello that a vector does not change.
    """
    whole = {key: value for key, value in action.items() if key != "times"}
    if "message" in action:
        whole["message"] = shown(message_of(action["message"], hello))
    if "messages" in action:
        whole["messages"] = [shown(message_of(each, hello)) for each in action["messages"]]
    return [whole] * action.get("times", 1)


def bare(fields: Json) -> Json:
    """An object without what a vector leaves out: what is null, and a reason that is empty."""
    return {key: value for key, value in fields.items() if value is not None and (key, value) != ("reason", "")}


# The format.


def formatted(content: Json) -> str:
    """A file of vectors as text: what belongs to a vector has a line for each key, and each step has a line."""
    return _several("{}", [f"{json.dumps(key)}: {_group(value)}" for key, value in content.items()], "") + "\n"


def _group(value: object) -> str:
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return _several("[]", map(_vector, value), "  ")
    return _line(value)


def _vector(vector: Json) -> str:
    return _several("{}", [f"{json.dumps(key)}: {_value(key, value)}" for key, value in vector.items()], "    ")


def _value(key: str, value: Any) -> str:
    return _several("[]", map(_line, value), "      ") if key == "steps" else _line(value)


def _several(brackets: str, lines: Iterable[str], indent: str) -> str:
    inner = ",\n".join(f"{indent}  {line}" for line in lines)
    return f"{brackets[0]}\n{inner}\n{indent}{brackets[1]}"


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    for file in FILES:
        (FOLDER / file).write_text(formatted(read(file)), "utf-8")
