"""The base class of all wires, and the helpers that wires share."""

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
def test_a_wire_compresses_only_with_a_window_that_zlib_supports(
    compress_from: int | None, bits: int, deflate: Deflate | None
) -> None:
    """zlib has no window of 8 bits."""
    wire = Wire()
    wire.compress_from = compress_from
    assert wire.deflate(bits) == deflate


def test_a_base_wire_is_writable_and_promises_nothing_else() -> None:
    """Each kind of wire adds what its server really supports."""
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


def test_the_default_callbacks_of_a_wire_do_nothing() -> None:
    """Neither does an abort of the base class."""
    wire = Wire()
    wire.on_writable()
    wire.on_blocked()
    wire.on_lost()
    wire.on_pong(b"x")
    wire.abort()


def test_a_detached_wire_still_reports_its_loss_and_nothing_else() -> None:
    """The handler has returned, but somebody may still wait for the end of the TCP connection."""
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
def test_the_coroutines_of_the_base_wire_are_not_implemented(use: Callable[[Wire], object]) -> None:
    """A subclass that forgets one fails loudly."""

    async def work() -> None:
        await use(Wire())  # type: ignore[misc]

    with pytest.raises(NotImplementedError):
        anyio.run(work)


def test_the_write_of_the_base_wire_is_not_implemented() -> None:
    """It is not a coroutine, and fails at the call."""
    with pytest.raises(NotImplementedError):
        Wire().write(Block([SHORT]))


def test_a_base_wire_reports_neither_signs_of_life_nor_an_end() -> None:
    """It knows nothing of its server; only a lost connection has ended."""
    wire = Wire()
    wire.announce_to(nothing_goes)
    wire.take_over_keepalive()
    wire.leave_error_to_server()
    assert (wire.shortcut(), wire.send_at_once(SHORT), wire.abort_is_over()) == (None, False, True)
    assert (wire.partial(), wire.unfinished(), wire.peer_left(), wire.server_closed()) == (0, 0, False, False)
    assert not wire.ends_now()
    wire.lost = True
    assert wire.ends_now()


def test_limit_message_size_returns_a_smaller_limit_of_the_server() -> None:
    """A limit below that of the server is enforced by this package."""
    wire = type("Bounded", (Wire,), {"traits": replace(ASGI, largest_message=1000)})()
    assert (wire.limit_message_size(1001), wire.limit_message_size(1000)) == (1000, None)
    assert Wire().limit_message_size(1 << 40) is None


@pytest.mark.parametrize(
    ("error", "gone"),
    [(ConnectionResetError(), True), (RuntimeError("closed"), True), (ValueError("a mistake"), False)],
)
def test_some_errors_mean_that_the_peer_has_left(error: Exception, gone: bool) -> None:
    """Any other error is a mistake in somebody's code."""
    assert Wire().says_gone(error) is gone


def test_a_detached_wire_drops_the_context_of_its_call() -> None:
    """The application may have put something into that context that refers back to the connection."""
    wire = Wire()
    assert wire.context is not None
    wire.detach()
    wire.on_failed(KeyError())
    assert wire.context is None


@pytest.mark.anyio
@pytest.mark.parametrize("use", [nothing_comes, lambda: nothing_goes({})], ids=["receive", "send"])
async def test_receive_and_send_of_a_released_wire_say_that_it_is_over(use: Callable[[], Awaitable[object]]) -> None:
    """Somebody may still hold them."""
    with pytest.raises(ConnectionResetError, match="over"):
        await use()
    nothing_is_left()


@pytest.mark.anyio
async def test_an_observer_sees_a_close() -> None:
    """It sees the code and the reason, as an application would send them."""
    send = AsyncMock()
    await tell_of_close(send, 4001, "bye")
    send.assert_awaited_once_with({"type": "websocket.close", "code": 4001, "reason": "bye"})


@pytest.mark.anyio
async def test_an_observer_that_hangs_at_a_close_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close waits for it no longer than `OBSERVING`."""
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
async def test_the_errors_of_an_observer_do_not_flood_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers close as often as they like."""
    monkeypatch.setattr("wsstab.wires.base._notices", Notices())
    with caplog.at_level(logging.WARNING, "wsstab"):
        for _ in range(1000):
            await tell_of_close(AsyncMock(side_effect=KeyError("a mistake")), 1000, "")
    assert 0 < len(caplog.records) < 1000
    assert "failed at a close" in caplog.records[0].getMessage()


def test_missing_attributes_are_logged_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share one line; an attribute of an attribute counts as one name."""
    monkeypatch.setattr("wsstab.wires.base._lacking", set())
    server = SimpleNamespace(has=SimpleNamespace(this=1))
    with caplog.at_level(logging.WARNING, "wsstab"):
        assert not lacks(server, ("has", "has.this"), "it")
        assert [lacks(server, ("has.that", "has.this", "more.of"), "it") for _ in range(2)] == [True, True]
    (record,) = caplog.records
    assert record.getMessage() == "! it has no has.that, more.of: falling back to plain ASGI"


class Stream:
    """An object of some server."""

    async def send(self, event: Event) -> None:
        """The method that the server passes to the application."""


class Hostile:
    """An object that raises for every attribute."""

    def __getattr__(self, name: str) -> object:
        raise KeyError(name)


def test_the_owner_of_a_servers_send_is_the_object_of_its_method() -> None:
    """Compiled methods have an owner as well; functions, proxies and objects that raise have none."""
    stream, compiled = Stream(), SimpleNamespace(__self__="the server's")
    assert owner_of(stream.send) is stream
    assert owner_of(compiled) == "the server's"
    assert owner_of(SimpleNamespace(__self__=stream, __wrapped__=stream.send)) is None
    assert owner_of(nothing_goes) is None
    assert owner_of(Hostile()) is None
