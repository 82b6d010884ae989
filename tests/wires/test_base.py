"""What every wire has in common."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from wsstab.core.frames import Block, Deflate, Outgoing
from wsstab.wires.base import Wire
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
