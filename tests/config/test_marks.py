"""Overrides on endpoints: what is decorated stays what it was, and announces itself."""

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
    """Lets in, or not, and remembers who came."""

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.noted: list[Mark] = []

    def note(self, overrides: Overrides) -> None:
        """Remember."""
        self.noted += overrides

    async def let_in(self, overrides: Overrides) -> bool:
        """Remember and answer."""
        self.note(overrides)
        return self.answer


async def plain(word: str, *, times: int = 2) -> str:
    """An endpoint."""
    return word * times


async def test_a_function_keeps_its_name_its_signature_and_its_result() -> None:
    """Frameworks look at them."""
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


async def test_the_function_below_has_it_too() -> None:
    """Whether the decorator that routes stands above or below."""

    async def endpoint() -> None: ...

    assert overrides_of(SMALL(endpoint)) == overrides_of(endpoint) == (SMALL,)


async def test_several_stand_in_their_order() -> None:
    """The outermost first, through partials and wrappers."""

    async def endpoint(word: str) -> str:
        return word

    marked = QUIET(SMALL(endpoint))

    @functools.wraps(marked)
    async def wrapper(*arguments: Any) -> Any: ...

    for each in (marked, functools.partial(marked, "a"), wrapper, functools.partial(functools.partial(marked), "a")):
        assert overrides_of(each) == (QUIET, SMALL)
    assert overrides_of(endpoint) == (QUIET, SMALL)
    assert overrides_of(functools.partial(print)) == overrides_of(print) == overrides_of(None) == ()


async def test_who_is_refused_does_not_run() -> None:
    """The endpoint is not even called."""
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
    """Like what they are of."""

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


async def test_a_class_announces_its_instances() -> None:
    """And is the same class, of which others can be derived."""

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


async def test_a_class_may_take_its_arguments_where_it_is_made() -> None:
    """And have nothing else that does."""

    @SMALL
    class Made:
        word: str

        def __new__(cls, word: str) -> Made:
            made = super().__new__(cls)
            made.word = word
            return made

    assert Made("a").word == "a"


async def test_starlettes_endpoint_does_not_run_where_it_is_refused() -> None:
    """Its `dispatch` is asked before."""

    @SMALL
    class Echo(WebSocketEndpoint):
        async def on_connect(self, websocket: Any) -> None:
            raise AssertionError

    token = watch.set(Doorkeeper(answer=False))
    await Echo({"type": "websocket"}, None, None)  # type: ignore[arg-type]
    watch.reset(token)


async def test_an_instance_that_is_called_is_marked_by_itself_or_by_its_class() -> None:
    """By its class it is asked for each call."""

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


async def test_a_plain_function_is_only_marked() -> None:
    """It makes a coroutine or is no endpoint of a WebSocket."""

    def endpoint() -> None: ...

    assert SMALL(endpoint) is endpoint
    assert overrides_of(endpoint) == (SMALL,)


@pytest.mark.parametrize("wrong", [5, object(), "endpoint", None])
async def test_what_cannot_be_called_is_refused(wrong: Any) -> None:
    """With what stands where."""
    with pytest.raises(TypeError, match="applies to an endpoint, which is a function or a class, not to"):
        SMALL(wrong)


async def test_what_takes_no_attribute_is_refused() -> None:
    """It would be off silently."""
    with pytest.raises(TypeError, match="an Override cannot apply to <built-in function print>, which takes no attrib"):
        SMALL(print)


async def test_the_endpoint_of_a_connection_that_is_over_does_not_run() -> None:
    """In a task that has outlived it, without its context."""
    ran = []

    @SMALL
    async def endpoint(scope: Any) -> None:
        ran.append(scope)

    over = SimpleNamespace(second_look=None, closing=SimpleNamespace(close=object()))
    await endpoint({"wsstab.peer": over})
    assert ran == []
    await endpoint({"wsstab.peer": None})
    assert ran == [{"wsstab.peer": None}]


async def test_without_a_stabilizer_one_warning_tells_that_it_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Its name is in it."""

    @SMALL
    async def lonely() -> None: ...

    for _ in range(2):
        await lonely()
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "lonely does nothing: no WebSocketStabilizer stands around" in record.getMessage()


async def test_an_instance_announces_itself_when_it_is_called() -> None:
    """It alone of its class, and who is refused does not run."""
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
