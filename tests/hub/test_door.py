"""The door: which handshakes are let in, and how the others are refused."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import AsyncMock

import anyio
import anyio.lowlevel
import pytest

from tests.support.stage import settle
from wsstab import Close, LimitHit, Override, WebSocketConfig, WebSocketConnectionManager
from wsstab.close import (
    ADDRESS_LIMIT,
    CONNECTION_LIMIT,
    DRAINING,
    DUPLICATE_CLIENT,
    NOT_ACCEPTED,
    ORIGIN_REFUSED,
    UNAUTHORIZED,
    Cause,
)
from wsstab.hub.door import Door, Guest, header, verdict
from wsstab.manager import hub_of

pytestmark = pytest.mark.anyio

NEIGHBOUR = "10.0.0.9"
STRANGER = "203.0.113.7"


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


def scope_of(path: str = "/ws", client: str = STRANGER, **headers: str) -> dict[str, Any]:
    """The scope of a handshake; underscores in the names of headers are hyphens."""
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {
        "type": "websocket",
        "path": path,
        "query_string": b"token=secret",
        "client": (client, 50000),
        "headers": [(b"host", b"chat.example.com:8000"), *pairs],
    }


class Entrance:
    """A door of a manager, and the limits that were hit at it."""

    def __init__(self, **options: Any) -> None:
        self.manager = WebSocketConnectionManager(WebSocketConfig(**options))
        self.door = Door(hub_of(self.manager))
        self.hits: list[LimitHit] = []
        self.manager.on(LimitHit, self.hits.append)

    async def knock(self, path: str = "/ws", client: str = STRANGER, **headers: str) -> Guest | Close:
        """The door's answer to a handshake."""
        return await self.door.admit(scope_of(path, client, **headers), self.manager.config.for_path(path))

    async def guest(self, path: str = "/ws", client: str = STRANGER, **headers: str) -> Guest:
        """The guest of a handshake that the door must admit."""
        answer = await self.knock(path, client, **headers)
        assert isinstance(answer, Guest), answer
        return answer

    @property
    def inside(self) -> int:
        """How many connections are counted."""
        return hub_of(self.manager).admission.count


async def test_by_default_every_handshake_is_let_in_and_counted() -> None:
    """The guest has the address of its peer, and no name."""
    at = Entrance()
    guest = await at.guest()
    assert (guest.address, guest.client_id, at.inside, at.hits) == (STRANGER, None, 1, [])


async def test_while_the_manager_drains_every_handshake_is_refused() -> None:
    """The client should come back in a second, to another process."""
    at = Entrance()
    await at.manager.drain()
    assert await at.knock() is DRAINING
    assert at.inside == 0


# Origins.


@pytest.mark.parametrize(
    "origin", ["https://chat.example.com", "http://chat.example.com:3000", "https://CHAT.example.com"]
)
async def test_pages_of_the_same_host_are_let_in(origin: str) -> None:
    """Host names are compared without port and case."""
    await Entrance().guest(origin=origin)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "https://chat.example.com.evil.example"])
async def test_pages_of_other_hosts_are_refused(origin: str) -> None:
    """So are pages that hide their origin. None is counted, and an event reports each."""
    at = Entrance()
    assert await at.knock(origin=origin) is ORIGIN_REFUSED
    assert (at.inside, at.hits) == (0, [LimitHit("allowed_origins", None, "/ws")])


async def test_the_first_refusal_of_each_origin_logs_how_to_allow_it(caplog: pytest.LogCaptureFixture) -> None:
    """The warning gives host, origin and the option to set, but no query string; later refusals are silent."""
    at = Entrance(allowed_origins=["same-host"])
    for _ in range(2):
        await at.knock(origin="https://other.example")
    await at.knock(origin="https://third.example")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    for word in ("'https://other.example'", "chat.example.com:8000", 'allowed_origins=["same-host", "https://other'):
        assert word in warnings[0]
    assert "secret" not in caplog.text


async def test_a_refusal_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The line has path, address and reason, and the option that refused."""
    caplog.set_level(logging.INFO, "wsstab")
    at = Entrance(max_connections=1)
    for _ in range(2):
        await at.knock()
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert line == "x refused /ws 203.0.113.7: 'connection limit reached' by max_connections"


async def test_a_forwarded_host_counts_only_from_a_trusted_proxy() -> None:
    """Any client can send the header."""
    at = Entrance(trusted_proxies=[NEIGHBOUR])
    page = {"origin": "https://public.example", "x_forwarded_host": "public.example"}
    assert await at.knock(client=STRANGER, **page) is ORIGIN_REFUSED
    await at.guest(client=NEIGHBOUR, **page)


async def test_a_trusted_proxy_is_recognised_by_the_wire_s_peer_address() -> None:
    """If the server has put the forwarded client address into the scope, only the wire still knows the proxy."""
    at = Entrance(trusted_proxies=[NEIGHBOUR])
    scope = scope_of(client=STRANGER, origin="https://public.example", x_forwarded_host="public.example")
    config = at.manager.config
    assert await at.door.admit(scope, config, "198.51.100.1") is ORIGIN_REFUSED
    assert isinstance(await at.door.admit(scope, config, NEIGHBOUR), Guest)


async def test_parts_of_a_log_line_that_peers_choose_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    """Two origins that differ only behind the cut count as the same."""
    at = Entrance()
    for end in "12":
        await at.knock(origin="https://" + "x" * 60_000 + end)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warning) < 1000


async def test_each_route_has_its_own_origins() -> None:
    """A route that is open to all pages does not open the others."""
    at = Entrance(routes={"/public": Override(allowed_origins="*")})
    await at.guest("/public", origin="https://other.example")
    assert await at.knock("/ws", origin="https://other.example") is ORIGIN_REFUSED
    await at.guest("/public", origin="https://other.example")


# Connection limits.


async def test_at_the_connection_limit_a_handshake_needs_a_free_place() -> None:
    """Each connection that ends frees one place."""
    at = Entrance(max_connections=2)
    first, _ = await at.guest(), await at.guest()
    assert await at.knock() is CONNECTION_LIMIT
    assert at.hits == [LimitHit("max_connections", STRANGER, "/ws")]
    hub_of(at.manager).admission.release(first.address)
    await at.guest()
    assert at.inside == 2


async def test_simultaneous_handshakes_fill_exactly_the_connection_limit() -> None:
    """Counting and admitting are one step, however long ``authorize`` takes."""

    async def authorize(scope: Any) -> bool:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        return True

    at, answers = Entrance(max_connections=100, authorize=authorize), list[Guest | Close]()

    async def knock() -> None:
        answers.append(await at.knock())

    async with anyio.create_task_group() as group:
        for _ in range(500):
            group.start_soon(knock)
    assert sum(isinstance(answer, Guest) for answer in answers) == at.inside == 100
    assert len(answers) == 500
    assert {answer for answer in answers if isinstance(answer, Close)} == {CONNECTION_LIMIT}


async def test_each_address_has_its_own_limit() -> None:
    """A full address does not keep others out."""
    at = Entrance(max_connections_per_address=1)
    await at.guest(client=STRANGER)
    assert await at.knock(client=STRANGER) is ADDRESS_LIMIT
    await at.guest(client="198.51.100.1")
    assert at.hits == [LimitHit("max_connections_per_address", STRANGER, "/ws")]


async def test_behind_a_trusted_proxy_the_forwarded_address_counts() -> None:
    """From any other peer the header may be made up."""
    at = Entrance(trusted_proxies=[NEIGHBOUR], max_connections_per_address=1)
    assert (await at.guest(client=NEIGHBOUR, x_forwarded_for="198.51.100.1")).address == "198.51.100.1"
    assert (await at.guest(client=NEIGHBOUR, x_forwarded_for="198.51.100.2")).address == "198.51.100.2"
    assert (await at.guest(client=STRANGER, x_forwarded_for="198.51.100.3")).address == STRANGER


async def test_client_address_lets_the_application_determine_the_address() -> None:
    """The application may read it from a header of its own proxy, for example."""
    at = Entrance(client_address=lambda scope: header(scope, b"x-real-address"))
    assert (await at.guest(x_real_address="198.51.100.9")).address == "198.51.100.9"
    assert (await at.guest()).address is None


async def test_a_limit_on_a_private_address_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """The address is probably that of a proxy that is not trusted, and then all clients share one limit."""
    at = Entrance(max_connections_per_address=5)
    for _ in range(2):
        await at.guest(client=NEIGHBOUR)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert NEIGHBOUR in warning
    assert "set trusted_proxies" in warning


@pytest.mark.parametrize(
    ("options", "client"),
    [
        ({"max_connections_per_address": 5}, STRANGER),
        ({"max_connections_per_address": 5, "trusted_proxies": ["10.0.0.1"]}, NEIGHBOUR),
        ({}, NEIGHBOUR),
    ],
    ids=["public", "a proxy is trusted", "no limit"],
)
async def test_a_sound_address_limit_is_not_warned_of(
    options: dict[str, Any], client: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The address is public, a trusted proxy is configured, or there is no limit."""
    await Entrance(**options).guest(client=client)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# The application's own check: ``authorize``.


def answering(answer: object) -> Any:
    """An ``authorize`` that returns this answer, or raises it."""

    async def authorize(scope: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer
        return answer

    return authorize


async def test_authorize_gets_the_scope_and_lets_a_handshake_in_by_true() -> None:
    """The scope is complete, query string included."""
    seen: list[Any] = []

    async def authorize(scope: Any) -> bool:
        seen.append(scope)
        return True

    guest = await Entrance(authorize=authorize).guest()
    assert guest.client_id is None
    assert seen[0]["query_string"] == b"token=secret"


async def test_authorize_may_return_the_client_id() -> None:
    """The effect is that of ``connect()``."""
    assert (await Entrance(authorize=answering("ann")).guest()).client_id == "ann"


@pytest.mark.parametrize("answer", [False, None, "", 0, 1, object(), []])
async def test_any_answer_but_true_or_a_client_id_refuses(answer: object) -> None:
    """A forgotten ``return`` must not let anybody in."""
    at = Entrance(authorize=answering(answer))
    assert await at.knock() is UNAUTHORIZED
    assert (at.inside, at.hits) == (0, [LimitHit("authorize", STRANGER, "/ws")])


async def test_authorize_may_refuse_by_a_close_of_its_own() -> None:
    """Code, reason and HTTP status are its own; the cause is the stabilizer."""
    own = Close(4401, "log in first", reconnect=False, status=401, retry_after=7)
    at = Entrance(authorize=answering(own))
    assert await at.knock() == Close(4401, "log in first", Cause.STABILIZER, False, 401, 7)


async def test_an_authorize_that_raises_refuses_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The peer gets a 403, and the log a traceback without the query string."""
    at = Entrance(authorize=answering(ValueError("on purpose")))
    assert await at.knock() is UNAUTHORIZED
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.exc_info is not None
    assert "secret" not in caplog.text
    assert at.inside == 0


async def test_an_authorize_that_takes_too_long_refuses() -> None:
    """It has as long as the ``accept_timeout``."""

    async def authorize(scope: Any) -> bool:
        await anyio.sleep_forever()
        return True

    at = Entrance(authorize=authorize, accept_timeout=0.01)
    with anyio.fail_after(5):
        assert await at.knock() is NOT_ACCEPTED
    assert (at.inside, at.door._authorizing.count) == (0, 0)


async def test_a_cancelled_authorize_leaves_no_place_taken() -> None:
    """The server may give up on a handshake at any time."""
    at = Entrance(authorize=answering(True))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await at.knock()
    assert (at.inside, at.door._authorizing.count) == (0, 0)


async def test_the_number_of_pending_authorize_calls_is_bounded() -> None:
    """They run before the limits apply; beyond the bound handshakes are refused without a call."""
    asked, go = list[int](), anyio.Event()

    async def authorize(scope: Any) -> bool:
        asked.append(1)
        await go.wait()
        return True

    at = Entrance(authorize=authorize, max_connections=5)
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(at.knock)
        while len(asked) < 100:
            await anyio.lowlevel.checkpoint()
        assert await at.knock() is CONNECTION_LIMIT
        assert len(asked) == 100
        go.set()
    assert at.inside == 5


async def test_a_handshake_authorized_after_the_drain_began_is_refused() -> None:
    """The call may have taken long."""
    at = Entrance()

    async def authorize(scope: Any) -> bool:
        await at.manager.drain()
        return True

    config = WebSocketConfig(authorize=authorize).frozen()
    assert await at.door.admit(scope_of(), config) is DRAINING
    assert at.inside == 0


async def test_a_client_id_that_is_taken_is_refused_before_accept() -> None:
    """Under ``reject`` the refusal is an HTTP response, because nothing is open yet."""
    at = Entrance(authorize=answering("ann"), duplicate_client="reject")
    await at.manager.connect("ann", AsyncMock())
    refused = await at.knock()
    assert refused == DUPLICATE_CLIENT.because("client id is taken")
    assert (at.inside, at.hits) == (1, [LimitHit("duplicate_client", STRANGER, "/ws")])


async def test_a_handshake_that_replaces_a_connection_is_let_in_at_the_limit() -> None:
    """A client can thus reconnect when all places are taken; a new client is refused."""
    names = iter(["ann", "bob"])

    async def authorize(scope: Any) -> str:
        return next(names)

    at = Entrance(authorize=authorize, max_connections=1)
    await at.manager.connect("ann", AsyncMock())
    assert (await at.guest()).client_id == "ann"
    assert await at.knock() is CONNECTION_LIMIT


async def test_a_handshake_that_replaces_no_connection_is_refused_at_the_limit() -> None:
    """Under ``allow`` the old connection of the same name stays."""
    at = Entrance(authorize=answering("ann"), max_connections=1, duplicate_client="allow")
    await at.manager.connect("ann", AsyncMock())
    assert await at.knock() is CONNECTION_LIMIT


# Helper functions.


@pytest.mark.parametrize(
    ("answer", "meaning"), [(True, None), ("ann", "ann"), (False, UNAUTHORIZED), ("", UNAUTHORIZED)]
)
def test_verdict_turns_an_answer_into_a_client_id_or_a_close(answer: object, meaning: object) -> None:
    """It is ``None`` for a plain yes, a text for a client id, a `Close` for a no."""
    assert verdict(answer) == meaning


def test_header_returns_the_first_value_of_a_name_in_any_case() -> None:
    """Some servers do not convert header names to lower case."""
    scope = {"headers": [(b"X-Name", b"first"), (b"x-name", b"second")]}
    assert header(scope, b"x-name") == "first"
    assert header(scope, b"none") is None
    assert header({}, b"none") is None


# Pending handshakes count too.


class Slow:
    """An ``authorize`` that answers when the test lets it.

    Args:
        answer: what it answers.
    """

    def __init__(self, answer: bool | str = True) -> None:
        self.answer = answer
        self.asked = 0
        self.go = anyio.Event()

    async def __call__(self, scope: dict[str, Any]) -> bool | str:
        """Wait, and answer."""
        self.asked += 1
        await self.go.wait()
        return self.answer


async def test_pending_authorize_calls_count_against_the_limit_of_their_address() -> None:
    """Otherwise one address could use up all calls that may be pending."""
    slow = Slow()
    at = Entrance(authorize=slow, max_connections_per_address=3)
    answers: list[Guest | Close] = []

    async def knock(client: str) -> None:
        answers.append(await at.knock(client=client))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(knock, STRANGER)
        await settle()
        assert answers == [ADDRESS_LIMIT] * 7
        group.start_soon(knock, NEIGHBOUR)
        await settle()
        assert slow.asked == 4
        slow.go.set()
    assert hub_of(at.manager).admission.count_of(STRANGER) == 3
    assert await at.knock() is ADDRESS_LIMIT
    assert [hit.limit for hit in at.hits] == ["max_connections_per_address"] * 8


@pytest.mark.parametrize("answer", [False, Close(4000, "no")])
async def test_a_refused_handshake_no_longer_counts_for_its_address(answer: Any) -> None:
    """That holds whatever the answer of ``authorize`` was."""
    at = Entrance(authorize=AsyncMock(return_value=answer), max_connections_per_address=1)
    for _ in range(3):
        refusal = await at.knock()
        assert isinstance(refusal, Close)
        assert refusal is not ADDRESS_LIMIT
    assert at.inside == 0


async def test_a_limit_per_address_without_an_address_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """There is none behind a Unix socket, for example. The warning says which options to set."""
    at = Entrance(max_connections_per_address=1)
    for _ in range(3):
        await at.door.admit({**scope_of(), "client": None}, at.manager.config)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for word in ("max_connections_per_address cannot act", "Unix socket", "trusted_proxies", "client_address"):
        assert word in line
    assert at.inside == 3
