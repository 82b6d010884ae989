"""Peers that are behind: stalled ones are closed; lagging ones slow their senders, for a bounded time."""

from __future__ import annotations

import anyio
import pytest

from tests.support.stage import Peer, Stage, on_stage, push_only, settle, until
from wsstab import Outbound, SlowConsumer
from wsstab.close import VANISHED, Cause, Close
from wsstab.core.frames import Outgoing
from wsstab.loop.backpressure import PATIENCE

pytestmark = pytest.mark.anyio

ROOMY = 100


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


def blocked(peer: Peer) -> Peer:
    """A peer whose wire takes nothing, though a close frame gets through."""
    assert peer.wire is not None
    peer.wire.block()
    return peer


def held(peer: Peer, size: int) -> None:
    """The peer's transport holds so many bytes."""
    assert peer.wire is not None
    peer.wire.held = size


def told(stage: Stage) -> list[SlowConsumer]:
    """Who is reported as slow."""
    events: list[SlowConsumer] = []
    stage.manager.on(SlowConsumer, events.append)
    return events


@pytest.mark.parametrize("policy", ["close", "block", "drop_oldest", "drop_newest", "latest"])
async def test_a_peer_that_takes_nothing_for_the_timeout_is_closed(policy: str) -> None:
    """Under every policy, and whether or not anything is queued."""
    async with on_stage(push_only, capable=True, outbound=Outbound(send_timeout=5, policy=policy)) as stage:
        slow = told(stage)
        peer = blocked(await stage.open())
        stage.pass_time(4.5)
        assert peer.inner.closing.close is None
        stage.pass_time(1)
        closed = await peer.connection.closed
        assert (closed.code, closed.reason) == (1013, "slow consumer")
        assert [event.policy for event in slow] == [policy]
        assert stage.manager.statistics().slow_consumers == 0


async def test_a_peer_that_does_not_take_its_close_frame_either_is_aborted() -> None:
    """The abort follows soon after the close."""
    async with on_stage(push_only, capable=True, outbound=Outbound(send_timeout=5)) as stage:
        peer = blocked(await stage.open())
        peer.mute = True
        stage.pass_time(5.5)
        await until(lambda: peer.wire is not None and peer.wire.aborted, within=3)
        assert (await peer.connection.closed).code == 1013


@pytest.mark.parametrize("how", ["takes messages", "drains its buffer"])
async def test_a_peer_that_takes_anything_stays_open(how: str) -> None:
    """It does not matter how slowly it takes data."""
    async with on_stage(push_only, capable=True, outbound=Outbound(send_timeout=5)) as stage:
        (peer,) = await stage.named("ann")
        held(peer, 1000)
        blocked(peer)
        for step in range(6):
            stage.pass_time(4)
            if how == "drains its buffer":
                held(peer, 900 - step * 100)
            else:
                await stage.manager.send_to_client("ann", "x")
                await stage.manager.send_to_client("ann", "y")
                peer.resume()
                blocked(peer)
        assert peer.inner.closing.close is None
        held(peer, 0)


async def test_a_peer_that_has_caught_up_no_longer_lags() -> None:
    """When it falls behind again, it has its full patience again."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        blocked(peer)
        await stage.manager.send_to_client("ann", "x")
        backpressure = stage.hub.loops.here().backpressure
        (lag,) = backpressure.lagging.values()
        lag.patience = 0
        peer.resume()
        assert backpressure.lagging == {}
        assert peer.messages == ["x"]
        blocked(peer)
        assert [lag.patience for lag in backpressure.lagging.values()] == [PATIENCE]


async def test_a_peer_whose_messages_are_dropped_is_reported_once() -> None:
    """It is reported once for each time that it falls behind."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=1, policy="drop_newest")) as stage:
        slow = told(stage)
        (peer,) = await stage.named("ann")
        for _ in range(2):
            blocked(peer)
            for text in "abc":
                await stage.manager.send_to_client("ann", text)
            for _ in range(3):
                stage.pass_time(0.2)
            peer.resume()
        assert [(event.client_id, event.policy) for event in slow] == [("ann", "drop_newest")] * 2
        assert stage.manager.statistics().dropped_outbound == 4


async def flood(stage: Stage, count: int) -> float:
    """Broadcast without a pause; how many seconds it took."""
    began = anyio.current_time()
    with anyio.fail_after(10):
        for number in range(count):
            await stage.manager.broadcast(str(number))
    return anyio.current_time() - began


@pytest.mark.parametrize("policy", ["close", "block", "drop_oldest", "drop_newest"])
async def test_a_peer_that_does_not_drain_uses_up_its_patience_once(policy: str) -> None:
    """After that, senders no longer wait for it, and its policy decides."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=ROOMY, policy=policy)) as stage:
        healthy, stuck = await stage.named("healthy", "stuck")
        blocked(stuck)
        took = await flood(stage, 2 * ROOMY)
        assert PATIENCE * 0.8 <= took < PATIENCE * 4
        assert await healthy.hears(2 * ROOMY) == [str(number) for number in range(2 * ROOMY)]
        assert (stuck.inner.closing.close is not None) is (policy == "close")


async def test_broadcasts_of_latest_values_wait_for_no_peer() -> None:
    """Only one message waits, so no queue gets crowded."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=ROOMY, policy="latest")) as stage:
        _, stuck = await stage.named("healthy", "stuck")
        blocked(stuck)
        assert await flood(stage, 2 * ROOMY) < PATIENCE * 0.8


async def test_a_peer_that_keeps_up_while_it_is_waited_for_loses_nothing() -> None:
    """A loop of broadcasts without a pause must not close healthy peers."""
    size, count = 4096, 3 * ROOMY
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=ROOMY)) as stage:
        (peer,) = await stage.named("ann")
        wire = peer.wire
        assert wire is not None

        async def drain() -> None:
            while len(peer.messages) < count:
                wire.unblock()
                wire.block()
                await anyio.sleep(0.01)
            wire.unblock()

        blocked(peer)
        async with anyio.create_task_group() as group:
            group.start_soon(drain)
            for number in range(count):
                await stage.manager.broadcast(f"{number:04}".ljust(size))
        assert [str(message)[:4] for message in await peer.hears(count)] == [f"{n:04}" for n in range(count)]
        assert peer.closed is None


async def test_a_direct_sender_is_paced_by_its_own_peer_only() -> None:
    """The crowded queue of another peer costs it no time."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=4)) as stage:
        free, stuck = await stage.named("free", "stuck")
        blocked(stuck)
        for text in "abc":
            stuck.inner.sender.deliver(Outgoing(text))
        began = anyio.current_time()
        for number in range(20):
            assert await stage.manager.send_to_client("free", str(number))
        assert anyio.current_time() - began < PATIENCE * 0.8
        assert await stage.manager.send_to_client("stuck", "d")
        assert anyio.current_time() - began >= PATIENCE * 0.8
        assert len(await free.hears(20)) == 20


async def test_senders_do_not_wait_for_a_closing_peer() -> None:
    """A sender that was paced continues at once."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=4)) as stage:
        (stuck,) = await stage.named("stuck")
        blocked(stuck)
        backpressure = stage.hub.loops.here().backpressure
        for text in "abc":
            stuck.inner.sender.deliver(Outgoing(text))
        (lag,) = backpressure.lagging.values()
        lag.patience = 1000
        async with anyio.create_task_group() as group:
            group.start_soon(backpressure.pace, [stuck.inner])
            await settle()
            stuck.leaves(1001)
            stuck.inner.closing.learn(VANISHED)
        assert backpressure.lagging == {}


async def test_a_closing_peer_that_blocks_does_not_lag_again() -> None:
    """What was queued is still sent; but nothing would remove the peer from the list of lagging ones."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        blocked(peer)
        backpressure = stage.hub.loops.here().backpressure
        peer.inner.sender.deliver(Outgoing("a"))
        assert list(backpressure.lagging) == [peer.inner]
        peer.inner.closing.begin(Close(4000, "", Cause.APPLICATION))
        assert backpressure.lagging == {}
        assert peer.wire is not None
        peer.wire.block()
        assert backpressure.lagging == {}
        peer.resume()
        assert (await peer.connection.closed).code == 4000
        assert peer.messages == ["a"]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
async def test_each_stall_is_reported_once(policy: str) -> None:
    """A stall may show by dropped messages, by its length, or by both; it is one event."""
    outbound = Outbound(send_timeout=5, policy=policy, max_messages=1)
    async with on_stage(push_only, capable=True, outbound=outbound) as stage:
        slow = told(stage)
        (peer,) = await stage.named("ann")
        for stalls in (1, 2):
            blocked(peer)
            stage.hub.loops.here().backpressure.lagging[peer.inner].patience = 0
            for number in range(3):
                await stage.manager.send_to_client("ann", str(number), key=number)
            stage.pass_time(1)
            stage.pass_time(1)
            assert len(slow) == stalls
            if stalls == 1:
                peer.resume()
        stage.pass_time(5)
        await peer.connection.closed
        assert len(slow) == 2


@pytest.mark.parametrize("policy", ["block", "close"])
async def test_a_full_queue_and_a_stall_of_one_peer_are_one_report(policy: str) -> None:
    """The overflow of the queue and the stall that caused it are one event."""
    outbound = Outbound(send_timeout=5, policy=policy, max_messages=1)
    async with on_stage(push_only, capable=True, outbound=outbound) as stage:
        slow = told(stage)
        (peer,) = await stage.named("ann")
        blocked(peer)
        stage.hub.loops.here().backpressure.lagging[peer.inner].patience = 0
        for number in range(3):
            await stage.manager.send_to_client("ann", str(number))
        stage.pass_time(6)
        await peer.connection.closed
        assert [event.policy for event in slow] == [policy]
