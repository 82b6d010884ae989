"""The door: who may open a WebSocket, and what is said to those who may not."""

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
    """Each test runs on both."""
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
        """Ask to be let in."""
        return await self.door.admit(scope_of(path, client, **headers), self.manager.config.for_path(path))

    async def guest(self, path: str = "/ws", client: str = STRANGER, **headers: str) -> Guest:
        """Be let in."""
        answer = await self.knock(path, client, **headers)
        assert isinstance(answer, Guest), answer
        return answer

    @property
    def inside(self) -> int:
        """How many were counted in."""
        return hub_of(self.manager).admission.count


async def test_by_default_everybody_comes_in_and_is_counted() -> None:
    """Under the address of the peer, without a name."""
    at = Entrance()
    guest = await at.guest()
    assert (guest.address, guest.client_id, at.inside, at.hits) == (STRANGER, None, 1, [])


async def test_while_the_manager_drains_nobody_comes_in() -> None:
    """Whoever it is; the client should come back in a second, to another process."""
    at = Entrance()
    await at.manager.drain()
    assert await at.knock() is DRAINING
    assert at.inside == 0


# Origins.


@pytest.mark.parametrize(
    "origin", ["https://chat.example.com", "http://chat.example.com:3000", "https://CHAT.example.com"]
)
async def test_pages_of_the_same_host_come_in(origin: str) -> None:
    """Host names are compared without port and case."""
    await Entrance().guest(origin=origin)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "https://chat.example.com.evil.example"])
async def test_pages_of_other_hosts_do_not(origin: str) -> None:
    """Nor those that hide where they come from; nobody is counted, and an event tells of it."""
    at = Entrance()
    assert await at.knock(origin=origin) is ORIGIN_REFUSED
    assert (at.inside, at.hits) == (0, [LimitHit("allowed_origins", None, "/ws")])


async def test_the_first_refusal_of_each_origin_says_how_to_allow_it(caplog: pytest.LogCaptureFixture) -> None:
    """Both values and the line of configuration; the second is silent, and no query string is logged."""
    at = Entrance(allowed_origins=["same-host"])
    for _ in range(2):
        await at.knock(origin="https://other.example")
    await at.knock(origin="https://third.example")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    for word in ("'https://other.example'", "chat.example.com:8000", 'allowed_origins=["same-host", "https://other'):
        assert word in warnings[0]
    assert "secret" not in caplog.text


async def test_a_refusal_is_one_line_with_who_and_why(caplog: pytest.LogCaptureFixture) -> None:
    """And with the option that refused."""
    caplog.set_level(logging.INFO, "wsstab")
    at = Entrance(max_connections=1)
    for _ in range(2):
        await at.knock()
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert line == "x refused /ws 203.0.113.7: 'connection limit reached' by max_connections"


async def test_a_forwarded_host_counts_only_from_a_trusted_proxy() -> None:
    """Anybody can send the header."""
    at = Entrance(trusted_proxies=[NEIGHBOUR])
    page = {"origin": "https://public.example", "x_forwarded_host": "public.example"}
    assert await at.knock(client=STRANGER, **page) is ORIGIN_REFUSED
    await at.guest(client=NEIGHBOUR, **page)


async def test_a_peer_that_the_wire_knows_for_certain_may_forward_a_host() -> None:
    """Where the server put the client of a header in the place of its proxy, only the wire still knows the proxy."""
    at = Entrance(trusted_proxies=[NEIGHBOUR])
    scope = scope_of(client=STRANGER, origin="https://public.example", x_forwarded_host="public.example")
    config = at.manager.config
    assert await at.door.admit(scope, config, "198.51.100.1") is ORIGIN_REFUSED
    assert isinstance(await at.door.admit(scope, config, NEIGHBOUR), Guest)


async def test_what_a_peer_sends_makes_no_endless_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Each part of it is cut, and two that differ only behind the cut are one."""
    at = Entrance()
    for end in "12":
        await at.knock(origin="https://" + "x" * 60_000 + end)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warning) < 1000


async def test_each_route_has_its_own_origins() -> None:
    """One route for all pages does not open the others."""
    at = Entrance(routes={"/public": Override(allowed_origins="*")})
    await at.guest("/public", origin="https://other.example")
    assert await at.knock("/ws", origin="https://other.example") is ORIGIN_REFUSED
    await at.guest("/public", origin="https://other.example")


# Numbers.


async def test_at_the_limit_nobody_else_comes_in_until_somebody_leaves() -> None:
    """One who leaves makes room for one."""
    at = Entrance(max_connections=2)
    first, _ = await at.guest(), await at.guest()
    assert await at.knock() is CONNECTION_LIMIT
    assert at.hits == [LimitHit("max_connections", STRANGER, "/ws")]
    hub_of(at.manager).admission.release(first.address)
    await at.guest()
    assert at.inside == 2


async def test_handshakes_at_once_on_a_limit_yield_exactly_the_limit() -> None:
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
    """Others come in all the same."""
    at = Entrance(max_connections_per_address=1)
    await at.guest(client=STRANGER)
    assert await at.knock(client=STRANGER) is ADDRESS_LIMIT
    await at.guest(client="198.51.100.1")
    assert at.hits == [LimitHit("max_connections_per_address", STRANGER, "/ws")]


async def test_behind_a_trusted_proxy_the_forwarded_address_counts() -> None:
    """From anybody else it is made up."""
    at = Entrance(trusted_proxies=[NEIGHBOUR], max_connections_per_address=1)
    assert (await at.guest(client=NEIGHBOUR, x_forwarded_for="198.51.100.1")).address == "198.51.100.1"
    assert (await at.guest(client=NEIGHBOUR, x_forwarded_for="198.51.100.2")).address == "198.51.100.2"
    assert (await at.guest(client=STRANGER, x_forwarded_for="198.51.100.3")).address == STRANGER


async def test_an_application_may_know_better_whose_address_it_is() -> None:
    """From a header of its own proxy, say."""
    at = Entrance(client_address=lambda scope: header(scope, b"x-real-address"))
    assert (await at.guest(x_real_address="198.51.100.9")).address == "198.51.100.9"
    assert (await at.guest()).address is None


async def test_a_limit_on_a_private_address_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is probably a proxy's, whom nobody trusts, and then all clients share the limit."""
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
    ids=["public", "somebody is trusted", "no limit"],
)
async def test_where_nothing_is_wrong_there_is_no_warning(
    options: dict[str, Any], client: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A public address, a proxy that is known, or no limit at all."""
    await Entrance(**options).guest(client=client)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# The application's own word.


def answering(answer: object) -> Any:
    """An ``authorize`` that gives this, or raises it."""

    async def authorize(scope: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer
        return answer

    return authorize


async def test_authorize_sees_the_scope_and_may_say_yes() -> None:
    """The whole of it, query string included."""
    seen: list[Any] = []

    async def authorize(scope: Any) -> bool:
        seen.append(scope)
        return True

    guest = await Entrance(authorize=authorize).guest()
    assert guest.client_id is None
    assert seen[0]["query_string"] == b"token=secret"


async def test_authorize_may_give_the_client_its_name() -> None:
    """As if ``connect()`` had been called."""
    assert (await Entrance(authorize=answering("ann")).guest()).client_id == "ann"


@pytest.mark.parametrize("answer", [False, None, "", 0, 1, object(), []])
async def test_whatever_is_not_clearly_yes_is_no(answer: object) -> None:
    """A forgotten ``return`` must not let anybody in."""
    at = Entrance(authorize=answering(answer))
    assert await at.knock() is UNAUTHORIZED
    assert (at.inside, at.hits) == (0, [LimitHit("authorize", STRANGER, "/ws")])


async def test_authorize_may_say_no_in_its_own_words() -> None:
    """Code, reason and HTTP status are its own; the refusal is ours."""
    own = Close(4401, "log in first", reconnect=False, status=401, retry_after=7)
    at = Entrance(authorize=answering(own))
    assert await at.knock() == Close(4401, "log in first", Cause.STABILIZER, False, 401, 7)


async def test_an_authorize_that_fails_lets_nobody_in_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """403 for the peer, a traceback for the operator, and no query string."""
    at = Entrance(authorize=answering(ValueError("on purpose")))
    assert await at.knock() is UNAUTHORIZED
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert error.exc_info is not None
    assert "secret" not in caplog.text
    assert at.inside == 0


async def test_an_authorize_that_takes_too_long_lets_nobody_in() -> None:
    """The patience is that of ``accept_timeout``."""

    async def authorize(scope: Any) -> bool:
        await anyio.sleep_forever()
        return True

    at = Entrance(authorize=authorize, accept_timeout=0.01)
    with anyio.fail_after(5):
        assert await at.knock() is NOT_ACCEPTED
    assert (at.inside, at.door._authorizing.count) == (0, 0)


async def test_an_authorize_that_is_cancelled_leaves_nothing_behind() -> None:
    """The server may give up on a handshake at any time."""
    at = Entrance(authorize=answering(True))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await at.knock()
    assert (at.inside, at.door._authorizing.count) == (0, 0)


async def test_how_many_are_asked_about_at_once_is_bounded() -> None:
    """They come before the limits; past the bound nobody asks for them."""
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


async def test_who_was_authorized_when_the_drain_had_begun_does_not_come_in() -> None:
    """The question may have taken long."""
    at = Entrance()

    async def authorize(scope: Any) -> bool:
        await at.manager.drain()
        return True

    config = WebSocketConfig(authorize=authorize).frozen()
    assert await at.door.admit(scope_of(), config) is DRAINING
    assert at.inside == 0


async def test_a_name_that_is_taken_is_refused_before_the_handshake() -> None:
    """Under ``reject``: as an HTTP answer, since nothing is open yet."""
    at = Entrance(authorize=answering("ann"), duplicate_client="reject")
    await at.manager.connect("ann", AsyncMock())
    refused = await at.knock()
    assert refused == DUPLICATE_CLIENT.because("client id is taken")
    assert (at.inside, at.hits) == (1, [LimitHit("duplicate_client", STRANGER, "/ws")])


async def test_who_replaces_somebody_comes_in_at_the_limit() -> None:
    """A reconnect of the same client is possible when all places are taken; a stranger's is not."""
    names = iter(["ann", "bob"])

    async def authorize(scope: Any) -> str:
        return next(names)

    at = Entrance(authorize=authorize, max_connections=1)
    await at.manager.connect("ann", AsyncMock())
    assert (await at.guest()).client_id == "ann"
    assert await at.knock() is CONNECTION_LIMIT


async def test_who_replaces_nobody_does_not_come_in_at_the_limit() -> None:
    """Under ``allow`` the old connection stays."""
    at = Entrance(authorize=answering("ann"), max_connections=1, duplicate_client="allow")
    await at.manager.connect("ann", AsyncMock())
    assert await at.knock() is CONNECTION_LIMIT


# The small parts.


@pytest.mark.parametrize(
    ("answer", "meaning"), [(True, None), ("ann", "ann"), (False, UNAUTHORIZED), ("", UNAUTHORIZED)]
)
def test_the_meaning_of_an_answer(answer: object, meaning: object) -> None:
    """Nothing for yes, a text for a name, a close for no."""
    assert verdict(answer) == meaning


def test_the_first_header_of_a_name_counts_whatever_its_case() -> None:
    """Some servers do not lower the names."""
    scope = {"headers": [(b"X-Name", b"first"), (b"x-name", b"second")]}
    assert header(scope, b"x-name") == "first"
    assert header(scope, b"none") is None
    assert header({}, b"none") is None


# What is under way counts too.


class Slow:
    """An ``authorize`` that answers when it is told to.

    Args:
        answer: what it answers.
    """

    def __init__(self, answer: bool | str = True) -> None:
        self.answer = answer
        self.asked = 0
        self.go = anyio.Event()

    async def __call__(self, scope: dict[str, Any]) -> bool | str:
        """Answer."""
        self.asked += 1
        await self.go.wait()
        return self.answer


async def test_one_address_may_not_take_all_that_a_slow_authorize_can_take() -> None:
    """Its calls count as its connections, until they are answered."""
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
async def test_who_was_refused_counts_no_more(answer: Any) -> None:
    """Whatever the answer was."""
    at = Entrance(authorize=AsyncMock(return_value=answer), max_connections_per_address=1)
    for _ in range(3):
        refusal = await at.knock()
        assert isinstance(refusal, Close)
        assert refusal is not ADDRESS_LIMIT
    assert at.inside == 0


async def test_without_an_address_its_limit_says_that_it_cannot_act(caplog: pytest.LogCaptureFixture) -> None:
    """Once, with what to set; as behind a Unix socket."""
    at = Entrance(max_connections_per_address=1)
    for _ in range(3):
        await at.door.admit({**scope_of(), "client": None}, at.manager.config)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for word in ("max_connections_per_address cannot act", "Unix socket", "trusted_proxies", "client_address"):
        assert word in line
    assert at.inside == 3
