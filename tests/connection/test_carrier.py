"""The carrier: which task reads from the server, and how a handshake is refused."""

from __future__ import annotations

import logging

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Peer, on_stage, push_only, settle, until
from wsstab import Inbound, LimitHit, RateLimit
from wsstab.close import CONNECTION_LIMIT, DRAINING, ORIGIN_REFUSED
from wsstab.connection.carrier import denial, handshake_key
from wsstab.wires.asgi import AsgiWire

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["asgi", "capable"])
def capable(request: pytest.FixtureRequest) -> bool:
    """On plain ASGI one reader owns ``receive``; on a capable wire the handler calls it itself."""
    return bool(request.param)


async def test_an_echo_passes_text_and_bytes_in_order(capable: bool) -> None:
    """It does so whether the handler or a reader task reads from the server."""
    async with on_stage(capable=capable) as stage:
        peer = await stage.open()
        peer.says("one", b"two", "", b"")
        assert await peer.hears(4) == ["one", b"two", "", b""]


async def test_a_handler_that_never_receives_gets_a_reader(capable: bool) -> None:
    """It starts at once on plain ASGI and within a second elsewhere, so that a departing peer is noticed."""
    async with on_stage(push_only, capable=capable) as stage:
        peer = await stage.open()
        peer.leaves(1001)
        for _ in range(9):
            stage.pass_time(0.1)
            await settle()
        assert (await peer.connection.closed).code == 1001


async def test_a_handler_that_receives_again_in_time_needs_no_reader() -> None:
    """Its ``receive()`` goes straight to the server."""
    async with on_stage(capable=True) as stage:
        peer = await stage.open()
        for number in range(5):
            stage.pass_time(0.2)
            peer.says(str(number))
            await peer.hears(number + 1)
            assert peer.inner.carrier.reading
            assert peer.connection.statistics().unread_messages == 0


async def test_a_reader_ends_once_its_message_is_handed_over() -> None:
    """The next ``receive()`` goes straight to the server again; nothing is read twice or lost."""
    ready, got = anyio.Event(), list[str]()

    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        await ready.wait()
        async for text in websocket.iter_text():
            got.append(text)

    async with on_stage(late, capable=True) as stage:
        peer = await stage.open()
        for _ in range(9):
            stage.pass_time(0.1)
        await settle()
        assert peer.inner.carrier.attended
        ready.set()
        await settle()
        peer.says("one")
        await until(lambda: got == ["one"])
        await settle()
        assert peer.inner.carrier.reading
        peer.says("two", "three")
        await until(lambda: got == ["one", "two", "three"])


async def test_a_reader_pauses_while_a_reading_handler_is_behind(capable: bool) -> None:
    """It goes on when there is room again, and nothing is dropped."""
    ready, got = anyio.Event(), list[str]()

    async def slow(websocket: WebSocket) -> None:
        await websocket.accept()
        got.append(await websocket.receive_text())
        await ready.wait()
        async for text in websocket.iter_text():
            got.append(text)

    everything = [str(number) for number in range(12)]
    async with on_stage(slow, capable=capable, inbound=Inbound(max_messages=3)) as stage:
        peer = await stage.open()
        peer.says(*everything)
        for _ in range(40):
            stage.pass_time(0.1)
            await settle()
        assert peer.connection.statistics().unread_messages == 3
        assert peer.unread == 8
        ready.set()
        await until(lambda: got == everything)
        assert peer.connection.statistics().dropped_inbound == 0


async def test_a_handler_that_never_reads_keeps_the_newest_messages(capable: bool) -> None:
    """The oldest are dropped and counted. Reading never pauses for such a handler."""
    async with on_stage(push_only, capable=capable, inbound=Inbound(max_messages=3)) as stage:
        peer = await stage.open()
        peer.says(*"abcdefgh")
        while peer.unread:
            stage.pass_time(0.5)
            await settle()
        statistics = peer.connection.statistics()
        assert (statistics.messages_received, statistics.unread_messages) == (8, 2)
        assert statistics.dropped_inbound == 6


async def test_the_delay_action_holds_messages_back_without_losing_any() -> None:
    """A rate limit with the action ``delay`` reads no faster than the rate."""
    rate = RateLimit(messages_per_second=50, burst=1, action="delay")
    async with on_stage(capable=True, rate_limit=rate) as stage:
        peer = await stage.open()
        began = anyio.current_time()
        peer.says(*"abcdef")
        assert await peer.hears(6) == list("abcdef")
        assert anyio.current_time() - began >= 4 / 50


async def test_a_close_wakes_a_handler_that_waits_in_receive(capable: bool) -> None:
    """It gets the disconnect exactly once; later calls raise."""
    seen: list[object] = []

    async def listener(websocket: WebSocket) -> None:
        await websocket.accept()
        seen.append(await websocket._receive())
        with pytest.raises(RuntimeError, match="once a disconnect message has been received"):
            await websocket._receive()

    async with on_stage(listener, capable=capable) as stage:
        peer = await stage.open()
        await settle()
        await peer.connection.close(4001, "enough")
        await peer.over()
        assert seen == [{"type": "websocket.disconnect", "code": 4001, "reason": "enough"}]
        assert peer.closed == (4001, "enough")


async def test_no_reader_starts_during_a_close_that_a_pending_receive_would_block(capable: bool) -> None:
    """On granian a pending receive blocks the close; elsewhere it is how we learn that the peer has left."""
    async with on_stage(push_only, capable=capable) as stage:
        peer = await stage.open()
        carrier, ending = peer.inner.carrier, peer.inner.closing
        carrier.stop_reading()
        await until(lambda: not carrier.attended)
        ending.close = DRAINING
        carrier.read_ahead()
        assert carrier.attended is capable
        ending.close = None
        carrier.read_ahead()
        assert carrier.attended


async def test_a_handler_that_misses_the_accept_timeout_is_cancelled(capable: bool) -> None:
    """Its peer is refused with 503 and ``Retry-After``, and subscribers get a `LimitHit`."""
    hits: list[LimitHit] = []

    async def never(websocket: WebSocket) -> None:
        await anyio.sleep_forever()

    async with on_stage(never, capable=capable, accept_timeout=5.0) as stage:
        stage.manager.on(LimitHit, hits.append)
        peer = stage.call(Peer())
        await settle()
        stage.pass_time(4.8)
        await settle()
        assert peer.sent == []
        stage.pass_time(0.5)
        await peer.over()
        assert peer.kinds == ["websocket.http.response.start", "websocket.http.response.body"]
        assert peer.sent[0]["status"] == 503
        assert (b"retry-after", b"1") in peer.sent[0]["headers"]
        assert [hit.limit for hit in hits] == ["accept_timeout"]


def test_a_denial_is_one_start_and_one_body() -> None:
    """The body is the reason as a line of text; ``Retry-After`` says when to come back."""
    start, body = denial(CONNECTION_LIMIT, can_deny=True)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert (b"retry-after", b"5") in start["headers"]
    assert (b"content-length", str(len(body["body"])).encode()) in start["headers"]
    assert body["body"] == b"connection limit reached\n"
    assert body["more_body"] is False


def test_a_final_denial_has_no_retry_after() -> None:
    """A wrong origin stays wrong, so coming back is pointless."""
    start, _ = denial(ORIGIN_REFUSED, can_deny=True)
    assert start["status"] == 403
    assert b"retry-after" not in [name for name, _ in start["headers"]]


def test_without_the_extension_a_denial_is_a_close() -> None:
    """Servers turn a close before accept into a 403."""
    assert denial(DRAINING, can_deny=False) == [{"type": "websocket.close", "code": 1012, "reason": "service restart"}]


KEY = (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")


def test_a_handshake_is_recognised_by_its_key() -> None:
    """Middleware may have changed other headers. HTTP/2 has no key, so there all headers are compared."""
    assert handshake_key([(b"host", b"a"), KEY]) == handshake_key([(b"sec-websocket-key", KEY[1]), (b"host", b"b")])
    assert handshake_key([(b"Host", b"a")]) == handshake_key([(b"host", b"a")])
    assert handshake_key([(b"host", b"a")]) != handshake_key([(b"host", b"b")])


async def test_a_carrier_recognises_its_scopes_until_the_call_is_over() -> None:
    """A scope belongs to the handshake if it has the same headers object or the same key."""
    async with on_stage() as stage:
        peer = await stage.open(headers=[(b"host", b"a"), KEY])
        carrier = peer.inner.carrier
        assert carrier.carries(peer.scope)
        assert carrier.carries({"headers": [KEY, (b"x-added", b"1")]})
        assert not carrier.carries({"headers": [(KEY[0], b"another")]})
        assert not carrier.carries({})
        peer.leaves()
        await peer.over()
        assert not carrier.carries(peer.scope)


@pytest.mark.parametrize("left", [False, True])
async def test_a_reader_that_waits_for_room_checks_whether_the_peer_has_left(
    left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the peer has left, the reader goes past the unread messages to its disconnect."""
    monkeypatch.setattr("wsstab.connection.carrier.BETWEEN_LOOKS", 0.01)
    looks: list[bool] = []

    def peer_left(self: object) -> bool:
        looks.append(left)
        return left

    monkeypatch.setattr(AsgiWire, "peer_left", peer_left, raising=False)
    go, got = anyio.Event(), list[str]()

    async def reads_one(websocket: WebSocket) -> None:
        await websocket.accept()
        got.append(await websocket.receive_text())
        await go.wait()
        async for text in websocket.iter_text():
            got.append(text)

    async with on_stage(reads_one, inbound=Inbound(max_messages=2)) as stage:
        peer = await stage.open()
        peer.says(*"abcdef")
        peer.leaves(4001)
        await until(lambda: len(looks) >= 3 or peer.inner.closing.event)
        assert (peer.inner.closing.event is not None) is left
        assert (peer.unread == 0) is left
        go.set()
        await peer.over()
    assert got == list("abcdef")


async def test_a_reader_reads_past_heartbeat_answers(capable: bool) -> None:
    """They are not for the handler, so the reader goes on until it has a message to hand over."""
    async with on_stage(push_only, capable=capable, max_message_size=None, heartbeat_type="custom") as stage:
        peer = await stage.open()
        peer.says("pong", "pong", "hello")
        while peer.unread:
            stage.pass_time(0.5)
            await settle()
        await until(lambda: peer.connection.statistics().unread_messages == 1)
        assert peer.connection.statistics().messages_received == 1


async def test_cancelling_a_handler_twice_is_harmless() -> None:
    """The second time its call is already over."""
    async with on_stage(push_only) as stage:
        peer = await stage.open()
        carrier = peer.inner.carrier
        carrier.cancel()
        await peer.over()
        carrier.cancel()
        assert (peer.error, stage.manager.get_connection_count()) == (None, 0)


async def test_at_debug_the_start_of_a_reader_is_logged(caplog: pytest.LogCaptureFixture, capable: bool) -> None:
    """The line shows that the handler does not read for itself."""
    caplog.set_level(logging.DEBUG, "wsstab")
    async with on_stage(push_only, capable=capable) as stage:
        peer = await stage.open()
        for _ in range(9):
            stage.pass_time(0.1)
            await settle()
        assert peer.inner.carrier.attended
    assert "- a reader begins" in caplog.text
