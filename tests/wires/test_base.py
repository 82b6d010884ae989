"""What every wire has in common, and the block that many of them share."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from wsstab.payload import Outgoing
from wsstab.wires.base import DEFLATE_THRESHOLD, Block, Wire, frame_for
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
    assert block.frames() is block.frames(0)
    assert block.frames(12) is block.frames(12)


def test_a_block_is_joined_once_for_each_window() -> None:
    """Peers with and without compression share it all the same."""
    block = Block([LONG])
    plain, small, large = block.frames(), block.frames(9), block.frames(15)
    assert (plain, small, large) == (LONG.frame, LONG.deflated(9), LONG.deflated(15))


def test_short_messages_go_uncompressed_beside_long_ones() -> None:
    """Each message decides for itself."""
    assert Block([SHORT, LONG]).frames(12) == SHORT.frame + LONG.deflated(12)


@pytest.mark.parametrize(
    ("size", "bits", "compressed"),
    [(DEFLATE_THRESHOLD - 1, 12, False), (DEFLATE_THRESHOLD, 12, True), (DEFLATE_THRESHOLD, 0, False)],
)
def test_a_message_is_compressed_from_the_threshold_on_where_it_was_negotiated(
    size: int, bits: int, compressed: bool
) -> None:
    """The threshold itself is compressed."""
    message = Outgoing("x" * size)
    assert frame_for(message, bits) == (message.deflated(bits) if compressed else message.frame)


def test_a_new_wire_takes_data_and_promises_nothing_else() -> None:
    """What a server really has, each kind of wire says for itself."""
    wire = Wire()
    assert (wire.writable, wire.readable, wire.lost, wire.is_open()) == (True, True, False, True)
    assert (wire.traits, wire.peer_address(), wire.refuse_compression()) == (ASGI, None, False)
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
