"""A broadcast reaches its audience, in one order for everybody."""

from __future__ import annotations

from tests.conftest import MakeLab
from tests.support.frames import TEXT
from tests.support.lab import Lab
from tests.support.peer import Peer
from tests.support.waiting import eventually

CHAT = "tests.support.apps.chat:make_app"


def member(lab: Lab, name: str, rooms: str = "", **handshake: object) -> Peer:
    """A peer of this name in these rooms."""
    peer = lab.connect(f"/member/{name}?rooms={rooms}", **handshake)
    assert peer.receive() == "ready"
    return peer


def test_everybody_gets_everything(lab: MakeLab) -> None:
    """Text and bytes arrive unchanged, a dict as JSON; the result counts the peers."""
    made = lab()
    peers = [made.connect("/push") for _ in range(10)]
    result = made.call("broadcast", {"n": 1, "é": None})
    assert (result["total"], result["succeeded"], result["failed"], result["errors"]) == (10, 10, 0, [])
    made.burst(50, 1000)
    made.burst(1, 70_000, text=False)
    for peer in peers:
        assert peer.receive() == '{"n":1,"é":null}'
        assert [str(text)[:8] for text in peer.receive_many(50)] == [f"{number:08d}" for number in range(50)]
        assert peer.receive() == b"00000000".ljust(70_000, b"x")


def test_everybody_hears_the_same_order(lab: MakeLab) -> None:
    """Three peers send at once, and each of them receives the same sequence."""
    made = lab()
    peers = [made.connect("/relay") for _ in range(3)]
    made.wait_for_connections(3)
    for number in range(100):
        for index, peer in enumerate(peers):
            peer.send(f"{index}:{number}")
    heard = [peer.receive_many(300) for peer in peers]
    assert heard[0] == heard[1] == heard[2]
    for index in range(3):
        own = [text for text in heard[0] if str(text).startswith(f"{index}:")]
        assert own == [f"{index}:{number}" for number in range(100)]


def test_a_broadcast_keeps_its_place_among_direct_sends(lab: MakeLab) -> None:
    """Whichever ways a handler uses to send, its peer receives in the order of the calls."""
    made = lab()
    peer = made.connect("/interleave?count=200")
    ways = ("broadcast", "connection", "websocket", "client")
    assert peer.receive_many(800) == [f"{way} {number}" for number in range(200) for way in ways]


def test_a_room_reaches_its_members(lab: MakeLab) -> None:
    """Nobody else receives its messages, nor does a member after leaving it."""
    made = lab()
    ann, bob, cat = member(made, "ann", "red"), member(made, "bob", "red,blue"), member(made, "cat")
    assert made.call("broadcast", "to red", room="red")["succeeded"] == 2
    assert made.call("broadcast", "to blue", room="blue")["succeeded"] == 1
    assert made.call("broadcast", "to nobody", room="green")["total"] == 0
    made.call("leave", "bob", "red")
    made.call("broadcast", "red again", room="red")
    made.call("broadcast", "all")
    assert ann.receive_many(3) == ["to red", "red again", "all"]
    assert bob.receive_many(3) == ["to red", "to blue", "all"]
    assert cat.receive() == "all"
    assert sorted(made.call("get_rooms")) == ["blue", "red"]
    assert made.call("get_room_members", "red") == ["ann"]


def test_a_peer_that_disconnects_leaves_its_rooms(lab: MakeLab) -> None:
    """A room without members ceases to exist."""
    made = lab()
    member(made, "ann", "red").close()
    made.wait_for_connections(0)
    assert made.call("get_rooms") == []


def test_clients_can_be_excluded_or_named(lab: MakeLab) -> None:
    """``total`` counts the audience before exclusion."""
    made = lab()
    peers = {name: member(made, name) for name in ("ann", "bob", "cat")}
    result = made.call("broadcast", "not ann", exclude_client="ann")
    assert (result["total"], result["succeeded"]) == (3, 2)
    assert made.call("broadcast", "only cat", exclude=["ann", "bob"])["succeeded"] == 1
    assert made.call("broadcast_to_clients", ["ann", "bob"], "you two")["succeeded"] == 2
    made.call("broadcast", "end")
    assert peers["ann"].receive_many(2) == ["you two", "end"]
    assert peers["bob"].receive_many(3) == ["not ann", "you two", "end"]
    assert peers["cat"].receive_many(3) == ["not ann", "only cat", "end"]


def test_a_broadcast_skips_peers_with_a_subprotocol_of_their_own(lab: MakeLab) -> None:
    """Their protocol does not know the message. A peer that takes a client id or joins a room has asked for it."""
    made = lab()
    foreign = made.connect("/negotiate", subprotocols=["graphql-transport-ws"])
    asked = member(made, "ann", "red", subprotocols=["chat.v2"])
    plain = made.connect("/push")
    assert made.call("broadcast", "to all")["total"] == 2
    assert made.call("broadcast", "to red", room="red")["succeeded"] == 1
    name = next(entry["client_id"] for entry in made.connections if entry["path"] == "/negotiate")
    made.call("send_to_client", name, "by name")
    assert asked.receive_many(2) == ["to all", "to red"]
    assert plain.receive() == "to all"
    assert foreign.receive() == "by name"


def test_a_broadcast_skips_engine_io(lab: MakeLab) -> None:
    """Socket.IO negotiates no subprotocol and is recognised by its query string."""
    made = lab()
    engine = made.connect("/echo?EIO=4&transport=websocket")
    made.connect("/push")
    assert made.call("broadcast", "to all")["total"] == 1
    engine.send("mine")
    assert engine.receive() == "mine"


def test_a_route_can_stay_out_of_broadcasts(lab: MakeLab) -> None:
    """``broadcast=False`` suits routes with a feed of their own; rooms still work there."""
    made = lab(routes={"/member/*": {"broadcast": False}})
    quiet, plain = member(made, "ann", "red"), made.connect("/push")
    assert made.call("broadcast", "to all")["total"] == 1
    made.call("broadcast", "to red", room="red")
    assert quiet.receive() == "to red"
    assert plain.receive() == "to all"


def test_a_chat_written_as_in_the_readme_works(lab: MakeLab) -> None:
    """FastAPI, rooms, private messages from HTTP, dependencies, and no clean-up code."""
    made = lab(CHAT)
    ann, bob = made.connect("/ws/ann"), made.connect("/ws/bob")
    eventually(lambda: len(made.call("get_room_members", "lobby")) == 2)
    ann.send("hi")
    assert bob.receive() == '{"from":"ann","text":"hi"}'
    bob.send("/join cellar")
    assert bob.receive() == "in cellar"
    ann.send("anybody?")
    assert made.server.post(made.path("/notify/bob")) == {"sent": True}
    assert made.server.post(made.path("/notify/eve")) == {"sent": False}
    assert bob.receive() == '{"hello":"bob"}'
    assert made.connect("/depends").receive() == '[3,"/depends"]'
    bob.close()
    eventually(lambda: made.call("get_room_members", "cellar") == [])
    assert ann.count(TEXT) == 0
