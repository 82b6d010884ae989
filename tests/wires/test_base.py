"""What every wire has in common, and the block that many of them share."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from wsstab.payload import Outgoing
from wsstab.wires.base import Block, Wire, frame_for
from wsstab.wires.deflate import Deflate
from wsstab.wires.traits import ASGI

SHORT, LONG = Outgoing("short"), Outgoing("long " * 1000)


def test_a_block_counts_its_messages_and_their_bytes() -> None:
    """Payload and not frames, since that is what limits are about."""
    block = Block([SHORT, LONG, Outgoing(b"\x00")])
    assert (block.count, block.size) == (3, 5 + 5000 + 1)


def test_a_block_is_its_frames_in_order() -> None:
    """Joined into one piece for one write."""
    assert Block([SHORT, LONG]).frames() == SHORT.frame + LONG.frame
    assert Block([]).frames() == b""


def test_a_block_is_joined_once_for_all_who_share_it() -> None:
    """The same bytes object for each."""
    block = Block([SHORT, LONG])
    assert block.frames() is block.frames(None)
    assert block.frames(Deflate(12, 1024)) is block.frames(Deflate(12, 1024))


def test_a_block_is_joined_once_for_each_window() -> None:
    """Peers with and without compression share it all the same."""
    block = Block([LONG])
    plain, small, large = block.frames(), block.frames(Deflate(9, 1024)), block.frames(Deflate(15, 1024))
    assert (plain, small, large) == (LONG.frame, LONG.deflated(9), LONG.deflated(15))


def test_short_messages_go_uncompressed_beside_long_ones() -> None:
    """Each message decides for itself."""
    assert Block([SHORT, LONG]).frames(Deflate(12, 1024)) == SHORT.frame + LONG.deflated(12)


@pytest.mark.parametrize("threshold", [1, 1024, 5000])
def test_a_message_is_compressed_from_the_threshold_on_where_it_was_negotiated(threshold: int) -> None:
    """The threshold itself is compressed."""
    below, at = Outgoing("x" * (threshold - 1)), Outgoing("x" * threshold)
    assert frame_for(below, Deflate(12, threshold)) == below.frame
    assert frame_for(at, Deflate(12, threshold)) == at.deflated(12)
    assert frame_for(at, None) == at.frame


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
