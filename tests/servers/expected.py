"""What a server cannot do: the tests that must fail there, each with its reason.

A row makes a test a strict expected failure: the suite fails when the test starts to pass. That is
the last resort. Where another outcome is legal on a server, the test itself should allow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.support.server import Variant

__all__ = ["EXPECTED", "LACKS", "Expected", "reason_to_fail"]

LACKS = {
    "native_ping": "no WebSocket ping can be sent",
    "can_abort": "the TCP connection cannot be ended from the application",
    "buffer_size": "it does not report how much waits to be sent",
    "native_frames": "every message is compressed for each peer by itself",
    "deflate": "it negotiates no compression",
    "compression_switch": "compression cannot be refused",
    "early_size_limit": "its limit on messages cannot be changed",
    "accept_headers": "headers of the handshake's answer are dropped",
    "disconnect_reasons": "the reason of the peer's close is not reported",
    "lifespan": "it has no lifespan",
}
"""What it means that a field of `Traits` is false."""


@dataclass(frozen=True)
class Expected:
    """One row: which tests must fail on which variants, and why.

    Args:
        pattern: a shell pattern (``*``, ``?``) for ``file.py::test_name``, with or without its parameters.
        lacks: the field of `Traits` that is false where they fail; it supplies the reason too.
        on: the beginning of the names of the variants, ``granian`` or ``hypercorn-trio``; ``None`` for all.
        why: the reason; required without ``lacks``.
    """

    pattern: str
    lacks: str | None = None
    on: str | None = None
    why: str | None = None

    @property
    def reason(self) -> str:
        """Why the tests must fail, in words."""
        return self.why or LACKS[self.lacks or ""]

    def applies(self, names: tuple[str, ...], variant: Variant) -> bool:
        """Whether a test with these names must fail on this variant."""
        if self.lacks is not None and getattr(variant.traits, self.lacks):
            return False
        here = self.on is None or str(variant).startswith(self.on)
        return here and any(fnmatchcase(name, self.pattern) for name in names)


UNFINISHED = ("an_unfinished_message", "too_many_unfinished", "a_peer_that_does_not_continue")

EXPECTED: list[Expected] = [
    *[
        Expected(f"test_heartbeat.py::test_{name}", lacks="native_ping")
        for name in (
            "a_peer_that_never_answers_is_gone",
            "the_timeout_may_be_shorter_than_the_interval",
            "a_half_open_peer_is_gone",
            "the_latency_is_measured",
            "a_ping_overtakes_queued_data",
            "a_heartbeat_can_be_off",
            "the_keepalive_of_the_server_is_taken_over",
            "without_a_heartbeat_the_server_keeps_its_own",
        )
    ],
    Expected("test_closing.py::test_the_handler_sees_code_and_reason_of_the_peer*-bye-*", lacks="disconnect_reasons"),
    Expected("test_closing.py::test_the_handler_sees_code_and_reason_of_the_peer*-3999]", lacks="disconnect_reasons"),
    Expected(
        "test_closing.py::test_a_peer_may_close_without_a_code",
        on="granian",
        why="it reports a close without a code and a lost connection alike",
    ),
    Expected("test_echo.py::test_headers_of_accept_reach_the_peer", lacks="accept_headers"),
    *[
        Expected(f"test_compression.py::test_{name}", lacks="deflate")
        for name in (
            "deflate_is_negotiated_where_it_is_offered",
            "no_context_is_taken_over",
            "small_messages_go_uncompressed",
        )
    ],
    *[
        Expected(
            "test_doorstep.py::test_frames_behind_the_handshake_arrive_in_order",
            on=name,
            why="its HTTP parser drops what is in the same packet as the handshake, before any ASGI call",
        )
        for name in ("sansio", "wsproto", "websockets", "daphne")
    ],
    Expected("test_mounting.py::test_a_service_with_a_lifespan*", lacks="lifespan"),
    *[
        Expected(
            f"test_unfinished.py::test_{name}*", on="granian", why="it reports nothing of a message before its end"
        )
        for name in UNFINISHED
    ],
    *[
        Expected(
            f"test_unfinished.py::test_{name}*fragments]",
            on="websockets",
            why="it reports nothing of a message between two of its frames",
        )
        for name in UNFINISHED
    ],
    Expected(
        "test_origin.py::test_by_default*--403]", on="daphne", why="autobahn itself refuses an empty Origin, with 400"
    ),
    Expected("test_socketio.py::*", on="hypercorn-trio", why="python-socketio itself runs on asyncio only"),
    Expected(
        "test_graphql.py::*", on="hypercorn-trio", why="strawberry's WebSocket handler itself runs on asyncio only"
    ),
]


def reason_to_fail(names: tuple[str, ...], variant: Variant) -> str | None:
    """Why a test must fail on this variant; ``None`` where it must not.

    Args:
        names: the names of the test, without and with its parameters.
        variant: the variant on which it runs.
    """
    return next((row.reason for row in EXPECTED if row.applies(names, variant)), None)
