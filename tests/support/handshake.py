"""The opening handshake from the client's side (RFC 6455 section 4.1)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Answer", "Denied", "Vanished", "parse_answer", "request"]

KEY = base64.b64encode(b"a key of 16 byte").decode()
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ACCEPT = base64.b64encode(hashlib.sha1((KEY + GUID).encode()).digest()).decode()


class Vanished(Exception):
    """The TCP connection ended before what was awaited came.

    Attributes:
        how: ``fin`` or ``rst``.
    """

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


@dataclass(frozen=True)
class Answer:
    """A server's answer to a handshake.

    Args:
        status: HTTP status.
        headers: name in lower case and value, in order.
        body: the body of a denial.
        rest: the bytes that came after the headers of an accepted handshake.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    rest: bytes = b""

    def header(self, name: str) -> str | None:
        """The first value of a header, ``None`` without one."""
        return next((value for key, value in self.headers if key == name.lower()), None)


class Denied(Exception):
    """The handshake was refused.

    Attributes:
        answer: the HTTP answer.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer

    @property
    def status(self) -> int:
        """The HTTP status of the refusal."""
        return self.answer.status


def request(
    path: str,
    host: str,
    headers: Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    extensions: str | None = None,
) -> bytes:
    """The bytes of a handshake.

    Args:
        path: request target, with its query string.
        host: value of the Host header, unless ``headers`` has one.
        headers: more headers.
        subprotocols: offered in this order.
        extensions: value of Sec-WebSocket-Extensions; ``None`` offers nothing.
    """
    extra = list(headers)
    lines = [f"GET {path} HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}"]
    lines += [] if any(name.lower() == "host" for name, _ in extra) else [f"Host: {host}"]
    lines += [f"Sec-WebSocket-Protocol: {', '.join(subprotocols)}"] if subprotocols else []
    lines += [f"Sec-WebSocket-Extensions: {extensions}"] if extensions else []
    lines += [f"{name}: {value}" for name, value in extra]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def parse_answer(data: bytes, ended: bool) -> Answer | None:
    """The answer in these bytes, or nothing while they are not all there.

    Args:
        data: everything that came so far.
        ended: whether nothing more will come.
    """
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    answer = Answer(int(status_line.split()[1]), headers, rest=rest)
    if answer.status == 101:
        return check_accept(answer)
    body = read_body(answer, rest, ended)
    return None if body is None else Answer(answer.status, headers, body)


def check_accept(answer: Answer) -> Answer:
    """The answer, when it proves that the server understood the handshake."""
    if answer.header("sec-websocket-accept") != ACCEPT:
        raise ValueError(f"wrong Sec-WebSocket-Accept in {answer}")
    return answer


def read_body(answer: Answer, rest: bytes, ended: bool) -> bytes | None:
    """The body of an HTTP answer, or nothing while it is not all there."""
    if "chunked" in (answer.header("transfer-encoding") or ""):
        return join_chunks(rest) if rest.endswith(b"0\r\n\r\n") else None
    length = answer.header("content-length")
    if length is None:
        return rest if ended else None
    return rest[: int(length)] if len(rest) >= int(length) else None


def join_chunks(data: bytes) -> bytes:
    """A chunked body in one piece (RFC 9112 section 7.1)."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
    return body
