"""The test vectors of wsstab.v1: the machines of both sides do what they say, and each rule of the protocol has one."""

from __future__ import annotations

import json
import re
from itertools import repeat

import pytest

from wsstab.client import actions
from wsstab.client.actions import Action
from wsstab.client.machine import ClientMachine
from wsstab.core.protocol import (
    Offer,
    ViolationError,
    escaped,
    is_control,
    negotiate,
    parse_control,
    parse_offer,
    unescaped,
)

from .serving import Server
from .vectors import FILES, FOLDER, Json, bare, formatted, groups, message_of, read, shown, spelt_out, text_of

MESSAGES = read("messages.json")
CLIENT = read("client.json")
SERVER = read("server.json")
KINDS = ("do", "tell", "decide")
"""What an action may be."""


def by_name(vectors: list[Json]) -> pytest.MarkDecorator:
    """A parameter for each vector, with its name as id."""
    return pytest.mark.parametrize("vector", [pytest.param(each, id=each["name"]) for each in vectors])


# The files.


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_vectors_has_its_one_format(name: str) -> None:
    """``python -m tests.client.vectors`` gives it that format."""
    assert (FOLDER / name).read_text("utf-8") == formatted(read(name))


@pytest.mark.parametrize("name", FILES)
def test_the_vectors_of_a_group_have_different_names(name: str) -> None:
    """Whoever runs them tells by its name which one fails."""
    for group in groups(name):
        assert sorted(vector["name"] for vector in group) == sorted({vector["name"] for vector in group})


def test_the_readme_describes_every_event_and_every_action() -> None:
    """And its example is one of the vectors."""
    text = (FOLDER / "README.md").read_text("utf-8")
    steps = [step for name in FILES for group in groups(name) for vector in group for step in vector.get("steps", [])]
    kinds = [action[key] for step in steps for action in step.get("actions", []) for key in action if key in KINDS]
    assert {word for word in [*kinds, *(step["event"] for step in steps)] if f"`{word}`" not in text} == set()
    (example,) = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert json.loads(example) in read("client.json")["vectors"]


# Messages.


def offer_as_written(offer: Offer | None) -> Json | None:
    """An offer as a vector would write it."""
    if offer is None:
        return None
    received = None if offer.session is None else offer.received
    return bare({"session": offer.session, "k": offer.attempt, "n": received, "next": offer.next})


@by_name(MESSAGES["offers"])
def test_an_offer_is_parsed_as_its_vectors_say(vector: Json) -> None:
    """A well-formed one has one spelling."""
    offer = parse_offer(vector["token"])
    assert offer_as_written(offer) == vector["offer"]
    assert offer is None or str(offer) == vector["token"]


@by_name(MESSAGES["handshakes"])
def test_a_handshake_is_understood_as_its_vectors_say(vector: Json) -> None:
    """What the handler sees, and what the client offers to this protocol."""
    application, offer = negotiate(vector["offered"])
    assert (application, offer_as_written(offer)) == (vector["application"], vector["offer"])


@by_name(MESSAGES["control"])
def test_a_control_message_is_parsed_as_its_vectors_say(vector: Json) -> None:
    """It is valid, ignored or malformed; what is built from a valid one means the same."""
    text = text_of(vector["text"])
    assert is_control(text)
    if vector["is"] == "malformed":
        with pytest.raises(ViolationError):
            parse_control(text)
        return
    message = parse_control(text)
    assert (message is None) == (vector["is"] == "ignored")
    if message is not None:
        assert shown(str(message)) == {"control": vector["message"]}
        assert parse_control(str(message)) == message


@by_name(MESSAGES["data"])
def test_data_travels_as_its_vectors_say(vector: Json) -> None:
    """There and back; it is never taken for a control message."""
    message, travels = message_of(vector["message"], {}), message_of(vector["travels"], {})
    if isinstance(message, str) and isinstance(travels, str):
        assert (escaped(message), unescaped(travels), is_control(travels)) == (travels, message, False)
    else:
        assert message == travels


# The client.

DONE = {actions.Connect: "connect", actions.Send: "send", actions.CloseCarrier: "close"}
TOLD = {
    actions.Opened: "opened",
    actions.Resumed: "resumed",
    actions.Plain: "plain",
    actions.Deliver: "message",
    actions.Gap: "gap",
    actions.Detached: "detached",
    actions.Lost: "lost",
    actions.Full: "full",
    actions.Room: "room",
    actions.Closed: "closed",
}


class Client:
    """A client's machine that is driven by the steps of a vector. Each event has a method of its name."""

    def __init__(self, options: Json) -> None:
        names, chance = iter(CLIENT["names"]), options.pop("chance")
        self.machine = ClientMachine(lambda: next(names), lambda: chance, **options)
        self.now = 0.0

    def take(self, step: Json) -> list[Json]:
        """Take a step, and return what follows as a vector would write it."""
        self.now = step.get("now", self.now)
        happen = getattr(self, step["event"])
        return [self.written(action) for _ in repeat(None, step.get("times", 1)) for action in happen(step)]

    def connect(self, _: Json) -> list[Action]:
        return self.machine.connect(self.now)

    def opened(self, step: Json) -> list[Action]:
        return self.machine.opened(step["carrier"], step.get("subprotocol"), self.now)

    def heard(self, step: Json) -> list[Action]:
        return self.machine.heard(step["carrier"], message_of(step["message"], CLIENT["hello"]), self.now)

    def ended(self, step: Json) -> list[Action]:
        code, reason, clean = step.get("code"), step.get("reason", ""), step.get("clean", False)
        return self.machine.ended(step["carrier"], code, reason, clean, self.now)

    def send(self, step: Json) -> list[Action]:
        return self.machine.send(message_of(step["message"], CLIENT["hello"]), self.now)

    def close(self, step: Json) -> list[Action]:
        return self.machine.close(self.now, step["code"], step.get("reason", ""))

    def wake(self, _: Json) -> list[Action]:
        return self.machine.wake(self.now)

    def tick(self, _: Json) -> list[Action]:
        return self.machine.tick(self.now)

    @staticmethod
    def written(action: Action) -> Json:
        """An action as a vector would write it."""
        fields: Json = {name: getattr(action, name) for name in action.__slots__}
        if "attempt" in fields:
            fields["carrier"] = fields.pop("attempt")
        if isinstance(action, actions.Send | actions.Deliver):
            fields["message"] = shown(action.message)
        elif isinstance(action, actions.Lost):
            fields["messages"] = [shown(each) for each in action.messages]
        elif isinstance(action, actions.Connect):
            fields["subprotocols"] = list(action.subprotocols)
        elif isinstance(action, actions.Resumed):
            fields["outcome"] = action.outcome.value
        if fields.get("code") == 1002:
            fields.pop("reason", None)
        kind = {"do": DONE[type(action)]} if type(action) in DONE else {"tell": TOLD[type(action)]}
        return kind | bare(fields)


@by_name(CLIENT["vectors"])
def test_the_client_does_what_its_vectors_say(vector: Json) -> None:
    """Step by step; a step that fails changes nothing."""
    client = Client(CLIENT["options"] | vector.get("options", {}))
    for number, step in enumerate(vector["steps"]):
        if step.get("fails"):
            with pytest.raises((RuntimeError, ValueError)):
                client.take(step)
        else:
            expected = [each for action in step["actions"] for each in spelt_out(action, CLIENT["hello"])]
            assert (number, client.take(step)) == (number, expected)


# The server.


@by_name(SERVER["vectors"])
def test_the_server_does_what_its_vectors_say(vector: Json) -> None:
    """Step by step, with its tables."""
    server = Server(SERVER["options"] | vector.get("options", {}), SERVER["hello"])
    for number, step in enumerate(vector["steps"]):
        expected = [each for action in step["actions"] for each in spelt_out(action, SERVER["hello"])]
        assert (number, server.take(step)) == (number, expected)
