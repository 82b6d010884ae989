"""What every wire has in common."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import AsyncMock

import anyio
import pytest

from wsstab.core.frames import Block, Deflate, Outgoing
from wsstab.notices import Notices
from wsstab.types import Event
from wsstab.wires.base import (
    Wire,
    lacks,
    nothing_comes,
    nothing_goes,
    nothing_is_left,
    owner_of,
    tell_of_close,
)
from wsstab.wires.traits import ASGI

SHORT = Outgoing("short")


@pytest.mark.parametrize(
    ("compress_from", "bits", "deflate"),
    [(None, 15, None), (1024, 0, None), (1024, 8, None), (1024, 9, Deflate(9, 1024)), (1, 15, Deflate(15, 1))],
)
def test_a_wire_compresses_what_is_wanted_with_a_window_that_zlib_has(
    compress_from: int | None, bits: int, deflate: Deflate | None
) -> None:
    """A window of 8 bits zlib has not."""
    wire = Wire()
    wire.compress_from = compress_from
    assert wire.deflate(bits) == deflate


def test_a_new_wire_takes_data_and_promises_nothing_else() -> None:
    """What a server really has, each kind of wire says for itself."""
    wire = Wire()
    assert (wire.writable, wire.readable, wire.lost, wire.is_open()) == (True, True, False, True)
    assert (wire.traits, wire.peer_address()) == (ASGI, None)
    assert (wire.refuse_compression(), wire.refuse_context_takeover()) == (False, False)
    assert (wire.buffered(), wire.reading_paused(), wire.ping(b"x"), wire.server_ping_interval) == (
        0,
        False,
        False,
        None,
    )


def test_nobody_need_listen_to_a_wire() -> None:
    """What it has to say then goes nowhere, and an abort does nothing."""
    wire = Wire()
    wire.on_writable()
    wire.on_blocked()
    wire.on_lost()
    wire.on_pong(b"x")
    wire.abort()


def test_a_detached_wire_tells_only_of_its_loss() -> None:
    """The handler has gone; what waits for the end of the TCP connection has not."""
    wire, told = Wire(), list[str]()
    wire.on_writable = wire.on_blocked = lambda: told.append("traffic")
    wire.on_pong = lambda payload: told.append("pong")
    wire.on_lost = lambda: told.append("lost")
    wire.detach()
    wire.on_writable()
    wire.on_blocked()
    wire.on_pong(b"x")
    wire.on_lost()
    assert told == ["lost"]


@pytest.mark.parametrize(
    "use",
    [
        lambda wire: wire.receive(),
        lambda wire: wire.accept({}),
        lambda wire: wire.deny({}),
        lambda wire: wire.send(SHORT),
        lambda wire: wire.close(1000, ""),
    ],
    ids=["receive", "accept", "deny", "send", "close"],
)
def test_each_kind_of_wire_says_how_it_is_done(use: Callable[[Wire], object]) -> None:
    """What is not said is no silent success."""

    async def work() -> None:
        await use(Wire())  # type: ignore[misc]

    with pytest.raises(NotImplementedError):
        anyio.run(work)


def test_a_wire_without_a_write_does_not_pretend_to_write() -> None:
    """The same for what does not wait."""
    with pytest.raises(NotImplementedError):
        Wire().write(Block([SHORT]))


def test_what_a_wire_cannot_tell_it_does_not_claim() -> None:
    """Where the server says nothing, there is neither a sign of life nor an end."""
    wire = Wire()
    wire.announce_to(nothing_goes)
    wire.take_over_keepalive()
    wire.leave_error_to_server()
    assert (wire.shortcut(), wire.send_at_once(SHORT), wire.abort_is_over()) == (None, False, True)
    assert (wire.partial(), wire.unfinished(), wire.peer_left(), wire.server_closed()) == (0, 0, False, False)
    assert not wire.ends_now()
    wire.lost = True
    assert wire.ends_now()


def test_a_server_s_own_bound_is_told_where_it_is_smaller() -> None:
    """A limit below it is ours to keep."""
    wire = type("Bounded", (Wire,), {"traits": replace(ASGI, largest_message=1000)})()
    assert (wire.limit_message_size(1001), wire.limit_message_size(1000)) == (1000, None)
    assert Wire().limit_message_size(1 << 40) is None


@pytest.mark.parametrize(
    ("error", "gone"),
    [(ConnectionResetError(), True), (RuntimeError("closed"), True), (ValueError("a mistake"), False)],
)
def test_some_errors_say_that_the_peer_has_left(error: Exception, gone: bool) -> None:
    """Others are somebody's mistake."""
    assert Wire().says_gone(error) is gone


def test_a_detached_wire_keeps_nothing_of_its_call() -> None:
    """The application may have put into that context what refers to all of this."""
    wire = Wire()
    assert wire.context is not None
    wire.detach()
    wire.on_failed(KeyError())
    assert wire.context is None


@pytest.mark.anyio
@pytest.mark.parametrize("use", [nothing_comes, lambda: nothing_goes({})], ids=["receive", "send"])
async def test_a_wire_that_has_let_go_says_that_it_is_over(use: Callable[[], Awaitable[object]]) -> None:
    """Whoever still holds its receive or its send."""
    with pytest.raises(ConnectionResetError, match="over"):
        await use()
    nothing_is_left()


@pytest.mark.anyio
async def test_an_observer_is_told_of_a_close() -> None:
    """With code and reason, as an application would send it."""
    send = AsyncMock()
    await tell_of_close(send, 4001, "bye")
    send.assert_awaited_once_with({"type": "websocket.close", "code": 4001, "reason": "bye"})


@pytest.mark.anyio
async def test_an_observer_that_hangs_holds_up_no_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled after a while."""
    monkeypatch.setattr("wsstab.wires.base.OBSERVING", 0.01)
    ended = list[bool]()

    async def hang(event: Event) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    with anyio.fail_after(5):
        await tell_of_close(hang, 1000, "")
    assert ended == [True]


@pytest.mark.anyio
async def test_the_error_of_an_observer_is_logged_a_few_times_in_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers close as they like."""
    monkeypatch.setattr("wsstab.wires.base._notices", Notices())
    with caplog.at_level(logging.WARNING, "wsstab"):
        for _ in range(1000):
            await tell_of_close(AsyncMock(side_effect=KeyError("a mistake")), 1000, "")
    assert 0 < len(caplog.records) < 1000
    assert "failed at a close" in caplog.records[0].getMessage()


def test_what_is_lacking_is_logged_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it in one line; an attribute of an attribute counts as one name."""
    monkeypatch.setattr("wsstab.wires.base._lacking", set())
    server = SimpleNamespace(has=SimpleNamespace(this=1))
    with caplog.at_level(logging.WARNING, "wsstab"):
        assert not lacks(server, ("has", "has.this"), "it")
        assert [lacks(server, ("has.that", "has.this", "more.of"), "it") for _ in range(2)] == [True, True]
    (record,) = caplog.records
    assert record.getMessage() == "! it has no has.that, more.of: falling back to plain ASGI"


class Stream:
    """Of some server."""

    async def send(self, event: Event) -> None:
        """What a server passes to the application."""


class Hostile:
    """Raises whatever one asks of it."""

    def __getattr__(self, name: str) -> object:
        raise KeyError(name)


def test_the_owner_of_a_method_is_the_object_of_the_server() -> None:
    """Compiled methods have theirs as well; functions, proxies and what raises have none."""
    stream, compiled = Stream(), SimpleNamespace(__self__="the server's")
    assert owner_of(stream.send) is stream
    assert owner_of(compiled) == "the server's"
    assert owner_of(SimpleNamespace(__self__=stream, __wrapped__=stream.send)) is None
    assert owner_of(nothing_goes) is None
    assert owner_of(Hostile()) is None
