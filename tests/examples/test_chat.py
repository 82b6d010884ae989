"""The server side of the chat: what its page relies on, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from examples.chat import KEPT_MESSAGES, MOST_ROOMS, ROOMS, STATIC, app, history, manager
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Each test begins with empty rooms."""
    yield
    for room in set(history) - set(ROOMS):
        del history[room]
    for kept in history.values():
        kept.clear()


@pytest.fixture
def client() -> Iterator[TestClient]:
    """The running chat."""
    with TestClient(app) as running:
        yield running


def hear(socket: WebSocketTestSession, kind: str) -> dict[str, Any]:
    """The next message of a type; others are skipped."""
    while (message := socket.receive_json())["type"] != kind:
        pass
    assert isinstance(message, dict)
    return message


def hello(socket: WebSocketTestSession, name: str, *rooms: str, key: str = "a key of mine") -> None:
    """Sign in, and wait until the server has listed the person."""
    socket.send_json({"type": "hello", "name": name, "key": key, "rooms": rooms or ["lobby"]})
    assert hear(socket, "welcome")["name"] == name
    room = f"#{(rooms or ('lobby',))[0]}"
    eventually(lambda: name in manager.get_room_members(room))


def close_of(socket: WebSocketTestSession) -> tuple[int, str]:
    """The code and the reason that the server closes with."""
    with pytest.raises(WebSocketDisconnect) as closed:
        hear(socket, "nothing of this kind")
    return closed.value.code, closed.value.reason


def test_the_page_loads_nothing_from_other_sites(client: TestClient) -> None:
    """Its content security policy forbids it, and every address in the page is one of this server."""
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for address in re.findall(r'(?:href|src)="([^"#]+)"', page.text):
        assert client.get(address).status_code == 200
    assert not re.findall(r'="(?:https?:)?//', page.text)
    assert sorted(each.name for each in STATIC.iterdir()) == [
        "chat.css",
        "chat.js",
        "icon.svg",
        "index.html",
        "link.js",
    ]


def test_a_newcomer_gets_the_history_and_the_roster(client: TestClient) -> None:
    """The history has earlier messages, and the roster has the people who are present."""
    with client.websocket_connect("/ws") as ann:
        hello(ann, "Ann")
        ann.send_json({"type": "say", "id": "message-1", "room": "lobby", "text": "early"})
        assert hear(ann, "message")["text"] == "early"
        with client.websocket_connect("/ws") as bob:
            hello(bob, "Bob")
            assert [told["text"] for told in hear(bob, "history")["messages"]] == ["early"]
            roster = hear(bob, "roster")
            assert roster["people"] == [{"name": "Ann", "away": False}, {"name": "Bob", "away": False}]
            assert roster["rooms"][0] == {"name": "lobby", "members": ["Ann", "Bob"]}


def test_a_repeated_message_reaches_the_others_once(client: TestClient) -> None:
    """A browser repeats a message that it has not seen come back; only that browser gets it again."""
    with client.websocket_connect("/ws") as ann, client.websocket_connect("/ws") as bob:
        hello(ann, "Ann")
        hello(bob, "Bob", key="another key")
        for text in ("once", "once", "next"):
            ann.send_json({"type": "say", "id": f"message-{text}", "room": "lobby", "text": text})
        assert [hear(bob, "message")["text"] for _ in range(2)] == ["once", "next"]
        assert [hear(ann, "message")["text"] for _ in range(3)] == ["once", "once", "next"]


def test_a_message_to_a_room_from_outside_is_ignored(client: TestClient) -> None:
    """The sender has not joined that room."""
    with client.websocket_connect("/ws") as ann:
        hello(ann, "Ann")
        ann.send_json({"type": "say", "id": "message-1", "room": "random", "text": "hidden"})
        ann.send_json({"type": "say", "id": "message-2", "room": "lobby", "text": "shown"})
        assert hear(ann, "message")["text"] == "shown"


def test_typing_is_announced_to_others_in_the_room(client: TestClient) -> None:
    """The announcement names the room and the person, who does not get it."""
    with client.websocket_connect("/ws") as ann, client.websocket_connect("/ws") as bob:
        hello(ann, "Ann")
        hello(bob, "Bob", key="another key")
        ann.send_json({"type": "typing", "room": "lobby"})
        assert hear(bob, "typing") == {"type": "typing", "room": "lobby", "name": "Ann"}
        ann.send_json({"type": "say", "id": "message-1", "room": "lobby", "text": "typed"})
        while (message := ann.receive_json())["type"] != "message":
            assert message["type"] != "typing"


def test_a_person_shows_as_away_and_as_present_again(client: TestClient) -> None:
    """The page reports both when its tab changes to and from the background."""
    with client.websocket_connect("/ws") as ann:
        hello(ann, "Ann")
        hear(ann, "roster")
        for away in (True, False):
            ann.send_json({"type": "presence", "away": away})
            assert hear(ann, "roster")["people"] == [{"name": "Ann", "away": away}]


def test_an_empty_room_is_removed_with_its_history(client: TestClient) -> None:
    """The predefined rooms stay."""
    with client.websocket_connect("/ws") as ann:
        hello(ann, "Ann", "attic")
        assert "attic" in history
    eventually(lambda: "attic" not in history)
    assert set(ROOMS) <= set(history)


def test_the_numbers_of_rooms_and_of_kept_messages_are_limited(client: TestClient) -> None:
    """A hundred rooms, and the last fifty messages of each."""
    with client.websocket_connect("/ws") as ann:
        hello(ann, "Ann", *(f"room-{number}" for number in range(MOST_ROOMS)))
        hear(ann, "roster")
        assert len(history) == MOST_ROOMS
        for number in range(KEPT_MESSAGES + 5):
            ann.send_json({"type": "say", "id": f"message-{number}", "room": "room-1", "text": str(number)})
            assert hear(ann, "message")["text"] == str(number)
        assert history["room-1"][0].text == "5"
        assert len(history["room-1"]) == KEPT_MESSAGES


def test_a_name_belongs_to_the_browser_with_its_key(client: TestClient) -> None:
    """Another key is refused with 4409; the same key takes over, and the older socket is closed."""
    with client.websocket_connect("/ws") as ann, client.websocket_connect("/ws") as impostor:
        hello(ann, "Ann")
        impostor.send_json({"type": "hello", "name": "Ann", "key": "not the key"})
        assert close_of(impostor) == (4409, "this name is taken")
        with client.websocket_connect("/ws") as again:
            hello(again, "Ann")
            assert close_of(ann)[0] == 4409


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "{}",
        '{"type": "say"}',
        '{"type": "hello", "name": "", "key": "a key of mine"}',
        '{"type": "hello", "name": "<b>", "key": "a key of mine"}',
        '{"type": "hello", "name": "Ann", "key": "a key of mine", "rooms": ["Not A Room"]}',
    ],
)
def test_an_invalid_message_closes_with_1003(client: TestClient, text: str) -> None:
    """The page never sends one."""
    with client.websocket_connect("/ws") as socket:
        socket.send_text(text)
        assert close_of(socket) == (1003, "not a message of this chat")
