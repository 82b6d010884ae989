"""Overrides on endpoints: a decorated endpoint stays what it was, and announces its overrides."""

from __future__ import annotations

import functools
import inspect
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.endpoints import WebSocketEndpoint

from wsstab import Override
from wsstab.config.marks import Mark, Overrides, overrides_of, watch

pytestmark = pytest.mark.anyio

SMALL, QUIET = Override(max_message_size=10), Override(broadcast=False)


class Doorkeeper:
    """Admits or refuses connections, and records the overrides that are announced to it."""

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.noted: list[Mark] = []

    def note(self, overrides: Overrides) -> None:
        """Record the overrides."""
        self.noted += overrides

    async def let_in(self, overrides: Overrides) -> bool:
        """Record the overrides, and answer."""
        self.note(overrides)
        return self.answer


async def plain(word: str, *, times: int = 2) -> str:
    """An endpoint."""
    return word * times


async def test_a_marked_function_keeps_its_name_signature_and_result() -> None:
    """Frameworks inspect them."""
    marked = SMALL(plain)
    assert inspect.iscoroutinefunction(marked)
    assert (marked.__name__, marked.__doc__, inspect.signature(marked)) == (
        "plain",
        "An endpoint.",
        inspect.signature(plain),
    )
    assert marked.__globals__ is plain.__globals__
    token = watch.set(Doorkeeper())
    assert await marked("a", times=3) == "aaa"
    watch.reset(token)


async def test_the_undecorated_function_carries_the_override_too() -> None:
    """Therefore the routing decorator may stand above or below the override."""

    async def endpoint() -> None: ...

    assert overrides_of(SMALL(endpoint)) == overrides_of(endpoint) == (SMALL,)


async def test_several_overrides_are_listed_outermost_first() -> None:
    """They are found through partials and wrappers too."""

    async def endpoint(word: str) -> str:
        return word

    marked = QUIET(SMALL(endpoint))

    @functools.wraps(marked)
    async def wrapper(*arguments: Any) -> Any: ...

    for each in (marked, functools.partial(marked, "a"), wrapper, functools.partial(functools.partial(marked), "a")):
        assert overrides_of(each) == (QUIET, SMALL)
    assert overrides_of(endpoint) == (QUIET, SMALL)
    assert overrides_of(functools.partial(print)) == overrides_of(print) == overrides_of(None) == ()


async def test_a_refused_endpoint_does_not_run() -> None:
    """It is not even called."""
    ran = []

    @SMALL
    async def endpoint() -> None:
        ran.append(True)

    keeper = Doorkeeper(answer=False)
    token = watch.set(keeper)
    await endpoint()
    watch.reset(token)
    assert (ran, keeper.noted) == ([], [SMALL])


async def test_a_partial_and_a_method_can_be_marked() -> None:
    """Marking a bound method does not mark the function of its class."""

    class Rooms:
        async def enter(self, word: str) -> str:
            return word

    token = watch.set(Doorkeeper())

    async def own(word: str) -> str:
        return word

    for marked in (SMALL(functools.partial(own)), SMALL(Rooms().enter)):
        assert overrides_of(marked) == (SMALL,)
        assert await marked("a") == "a"
    watch.reset(token)
    assert overrides_of(Rooms.enter) == ()


async def test_a_marked_class_announces_its_override_for_each_instance() -> None:
    """It stays the same class, and other classes can be derived from it."""

    class Asgi:
        def __init__(self, *arguments: object) -> None: ...

    class Below(SMALL(Asgi)):  # type: ignore[misc]
        pass

    keeper = Doorkeeper()
    token = watch.set(keeper)
    Below({}, None, None)
    watch.reset(token)
    assert SMALL(Asgi) is Asgi
    assert keeper.noted == [SMALL]
    assert overrides_of(Below)[0] == SMALL


async def test_a_marked_class_may_take_its_arguments_in_new() -> None:
    """It need not have an ``__init__`` that takes them too."""

    @SMALL
    class Made:
        word: str

        def __new__(cls, word: str) -> Made:
            made = super().__new__(cls)
            made.word = word
            return made

    assert Made("a").word == "a"


async def test_a_refused_starlette_endpoint_does_not_run() -> None:
    """The override is checked before its ``dispatch`` runs."""

    @SMALL
    class Echo(WebSocketEndpoint):
        async def on_connect(self, websocket: Any) -> None:
            raise AssertionError

    token = watch.set(Doorkeeper(answer=False))
    await Echo({"type": "websocket"}, None, None)  # type: ignore[arg-type]
    watch.reset(token)


async def test_a_callable_instance_can_be_marked_alone_or_by_its_class() -> None:
    """An override on its class is also announced at each call."""

    class Handler:
        async def __call__(self, word: str) -> str:
            return word

    alone, other = Handler(), Handler()
    assert SMALL(alone) is alone
    assert (overrides_of(alone), overrides_of(other)) == ((SMALL,), ())
    keeper = Doorkeeper(answer=False)
    token = watch.set(keeper)
    assert await QUIET(Handler)()("a") is None
    watch.reset(token)
    assert keeper.noted.count(QUIET) == 2


async def test_a_plain_function_is_marked_but_not_wrapped() -> None:
    """It returns a coroutine, or is not an endpoint of a WebSocket."""

    def endpoint() -> None: ...

    assert SMALL(endpoint) is endpoint
    assert overrides_of(endpoint) == (SMALL,)


@pytest.mark.parametrize("wrong", [5, object(), "endpoint", None])
async def test_an_override_on_a_value_that_cannot_be_called_is_refused(wrong: Any) -> None:
    """The error says what an override may apply to, and what it was given."""
    with pytest.raises(TypeError, match="applies to an endpoint, which is a function or a class, not to"):
        SMALL(wrong)


async def test_an_endpoint_that_takes_no_attributes_is_refused() -> None:
    """The override would silently have no effect."""
    with pytest.raises(TypeError, match="an Override cannot apply to <built-in function print>, which takes no attrib"):
        SMALL(print)


async def test_the_endpoint_of_a_closed_connection_does_not_run() -> None:
    """A task that has outlived the connection may call it, without its context."""
    ran = []

    @SMALL
    async def endpoint(scope: Any) -> None:
        ran.append(scope)

    over = SimpleNamespace(second_look=None, closing=SimpleNamespace(close=object()))
    await endpoint({"wsstab.peer": over})
    assert ran == []
    await endpoint({"wsstab.peer": None})
    assert ran == [{"wsstab.peer": None}]


async def test_an_override_without_a_stabilizer_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the endpoint, on which the override does nothing."""

    @SMALL
    async def lonely() -> None: ...

    for _ in range(2):
        await lonely()
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "lonely does nothing: no WebSocketStabilizer stands around" in record.getMessage()


async def test_a_marked_instance_announces_its_override_when_it_is_called() -> None:
    """Other instances of its class announce nothing, and a refused call does not run."""
    ran = []

    class Asgi:
        async def __call__(self, *arguments: object) -> None:
            ran.append(self)

    marked, other = SMALL(Asgi()), Asgi()
    assert isinstance(marked, Asgi)
    assert type(marked).__name__ == "Asgi"
    keeper = Doorkeeper(answer=False)
    token = watch.set(keeper)
    await marked({}, None, None)
    await other({}, None, None)
    watch.reset(token)
    assert (ran, keeper.noted) == ([other], [SMALL])
