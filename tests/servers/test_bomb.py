"""A small message that inflates to a huge one costs its sender the connection, and the server no memory."""

from __future__ import annotations

import functools
import zlib

from tests.conftest import MakeServer
from tests.support.frames import BINARY
from tests.support.lab import Lab
from tests.support.server import Variant

MEBIBYTE = 1 << 20


@functools.cache
def bomb(size: int) -> bytes:
    """This many zeros, deflated as permessage-deflate sends them (RFC 7692 section 7.2.1)."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"".join(deflater.compress(bytes(MEBIBYTE)) for _ in range(size // MEBIBYTE))
    return (data + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def test_a_decompression_bomb_is_not_inflated(serve: MakeServer, variant: Variant) -> None:
    """256 MiB in 256 KiB: 1009, or a protocol error where compression is not negotiated. Others are unaffected."""
    server = serve("tests.support.apps.lab:app", variant)
    with Lab(server) as made:
        bystander, peer = made.connect("/echo"), made.connect("/echo", extensions="permessage-deflate")
        before = server.peak_rss
        peer.send_frame(BINARY, bomb(256 * MEBIBYTE), reserved=4)
        peer.ended(within=15)
        codes = [frame.code for frame in peer.frames]
        assert codes in ([[1009]] if peer.extensions else [[], [1002], [1005]])
        assert server.peak_rss - before < 96 * MEBIBYTE
        bystander.send("still here")
        assert bystander.receive() == "still here"
