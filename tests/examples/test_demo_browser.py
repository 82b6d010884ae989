"""The demo, in real browsers.

This is the one file whose tests need something that pip cannot install, a browser: where there is
none they say so and are skipped. ``.ci/run`` installs one and fails when any test was skipped.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.request import urlopen

import pytest
from selenium.webdriver import Keys

from tests.examples.browsing import CHROMEDRIVER, CHROMIUM, PATIENCE, Person, person
from tests.examples.running import RunningDemo
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver")


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningDemo]:
    """The demo, for all tests that do not stop it."""
    with RunningDemo(18_000) as running:
        yield running


@pytest.fixture(scope="module")
def two(demo: RunningDemo) -> Iterator[tuple[Person, Person]]:
    """Ann and Bob, both connected."""
    with person(demo.url, "Ann Lee") as ann, person(demo.url, "Bob") as bob:
        ann.is_in()
        bob.is_in()
        yield ann, bob


def test_two_people_talk_in_a_room(two: tuple[Person, Person]) -> None:
    """What one says both read, each once."""
    ann, bob = two
    ann.says("good morning")
    bob.reads("good morning")
    bob.says("<b>good</b> evening")
    ann.reads("<b>good</b> evening")
    assert ann.texts(".what") == bob.texts(".what") == ["good morning", "<b>good</b> evening"]


def test_presence_shows_who_comes_and_goes(demo: RunningDemo, two: tuple[Person, Person]) -> None:
    """A third person appears in the lists of the others, and vanishes."""
    ann, bob = two
    with person(demo.url, "Cid") as cid:
        cid.is_in()
        for somebody in (ann, bob):
            somebody.sees("#here .name", "Cid")
        assert ann.texts("#here .name") == ["Ann Lee", "Bob", "Cid"]
    for somebody in (ann, bob):
        eventually(lambda: "Cid" not in somebody.texts("#here .name"), PATIENCE)  # noqa: B023


def test_a_room_of_ones_own_counts_its_unread_messages(two: tuple[Person, Person]) -> None:
    """Both are in a new room; the one who looks elsewhere gets a number, and reading takes it away."""
    ann, bob = two
    ann.find("#room-name").send_keys("Release Notes\n")
    ann.sees("#title", "# release-notes")
    bob.opens("rooms", "release-notes")
    bob.sees("#subtitle", "2 people here")
    ann.opens("rooms", "lobby")
    bob.says("it is out")
    eventually(lambda: ann.unread("rooms", "release-notes") == "1", PATIENCE)
    assert ann.driver.title == "(1) wsstab chat"
    ann.opens("rooms", "release-notes")
    ann.reads("it is out")
    assert ann.unread("rooms", "release-notes") == ""
    for somebody in (ann, bob):
        somebody.find("#leave").click()
        somebody.sees("#title", "# lobby")


def test_a_private_message_reaches_one_person(demo: RunningDemo, two: tuple[Person, Person]) -> None:
    """Bob gets it, with a number; a third person sees nothing of it."""
    ann, bob = two
    with person(demo.url, "Cid") as cid:
        cid.is_in()
        ann.opens("here", "Bob")
        ann.says("between us")
        ann.reads("between us")
        eventually(lambda: bob.unread("privates", "Ann Lee") == "1", PATIENCE)
        bob.opens("privates", "Ann Lee")
        bob.reads("between us")
        assert cid.texts("#privates .name") == []
    for somebody in (ann, bob):
        somebody.opens("rooms", "lobby")


def test_a_message_to_somebody_who_left_says_so(demo: RunningDemo, two: tuple[Person, Person]) -> None:
    """The sender learns that it was not delivered."""
    ann, _ = two
    with person(demo.url, "Cid") as cid:
        cid.is_in()
        ann.opens("here", "Cid")
    ann.sees("#subtitle", "Only you two · offline")
    ann.says("are you there?")
    ann.sees(".note", "not delivered: Cid is offline")
    ann.opens("rooms", "lobby")


def test_the_latency_that_the_server_measures_is_shown(two: tuple[Person, Person]) -> None:
    """A ping after five quiet seconds, and its round trip in the pill."""
    ann, _ = two
    eventually(lambda: ann.texts("#latency")[0].endswith(" ms"), PATIENCE)


def test_a_name_that_somebody_holds_is_refused(demo: RunningDemo, two: tuple[Person, Person]) -> None:
    """4409 is final: the page asks for another name and does not come back by itself."""
    with person(demo.url, "Bob") as impostor:
        impostor.sees("#sign-in-error", "That name is taken.")
        assert impostor.state == "connecting"
        impostor.find("#name").clear()
        impostor.find("#name").send_keys("Bob the second\n")
        impostor.is_in()


def test_a_copied_tab_takes_over_and_the_old_one_stays_quiet(demo: RunningDemo) -> None:
    """The old tab offers to come back, and does when told to."""
    with person(demo.url, "Dora") as dora:
        dora.is_in()
        first = dora.driver.current_window_handle
        dora.driver.execute_script("window.open(location.href)")
        eventually(lambda: dora.state == "final", PATIENCE)
        assert dora.find("#status-text").text == "Open in another tab"
        second = next(each for each in dora.driver.window_handles if each != first)
        dora.driver.switch_to.window(second)
        dora.is_in()
        dora.driver.switch_to.window(first)
        dora.find("#status-action").click()
        dora.is_in()


def test_the_keyboard_is_enough(two: tuple[Person, Person]) -> None:
    """Alt and an arrow switch the conversation, and the message box has the focus."""
    ann, _ = two
    ann.find("#room-name").send_keys("keys\n")
    ann.sees("#title", "# keys")
    script = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown', altKey: true}))"
    ann.driver.execute_script(script)
    eventually(lambda: ann.find("#title").text != "# keys", PATIENCE)
    assert ann.driver.switch_to.active_element.get_attribute("id") == "text"
    ann.opens("rooms", "lobby")


def test_the_page_makes_no_mistakes_and_asks_nobody_else(demo: RunningDemo, two: tuple[Person, Person]) -> None:
    """No error in the console; every resource comes from the demo itself."""
    for somebody in two:
        assert somebody.complaints() == []
        loaded = somebody.driver.execute_script(
            "return performance.getEntriesByType('resource').map((one) => one.name)"
        )
        assert loaded
        assert all(str(name).startswith(demo.url) for name in loaded)


def test_both_come_back_by_themselves_when_the_server_restarts() -> None:
    """The server drains with 1012 and starts again on its port; what was written meanwhile arrives."""
    with RunningDemo(18_200) as before:
        url, port = before.url, before.port
        with person(url, "Ann Lee") as ann, person(url, "Bob") as bob:
            ann.is_in()
            bob.is_in()
            ann.says("before")
            bob.reads("before")
            before.stop()
            assert "Traceback" not in before.log
            for somebody in (ann, bob):
                eventually(lambda: somebody.state in ("waiting", "connecting"), PATIENCE)  # noqa: B023
            ann.says("written while it was away")
            ann.sees(".note", "waits for the connection")
            with RunningDemo(port) as after:
                assert after.port == port
                ann.is_in()
                bob.is_in()
                bob.reads("written while it was away")
                bob.says("after")
                ann.reads("after")
                assert ann.texts(".what") == ["before", "written while it was away", "after"]


def test_the_demo_takes_the_next_port_when_its_own_is_taken() -> None:
    """And prints the one it took."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with RunningDemo(port) as demo, urlopen(demo.url) as answer:
            assert demo.port > port
            assert answer.status == 200


def test_on_a_narrow_screen_the_lists_are_drawers(demo: RunningDemo) -> None:
    """A button opens the rooms, choosing one closes them again, and so does Escape."""
    with person(demo.url, "Emil") as emil:
        emil.driver.set_window_size(420, 800)
        emil.is_in()
        button = emil.find("#rooms-button")
        button.click()
        assert button.get_attribute("aria-expanded") == "true"
        emil.opens("rooms", "questions")
        emil.sees("#title", "# questions")
        assert button.get_attribute("aria-expanded") == "false"
        button.click()
        emil.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert button.get_attribute("aria-expanded") == "false"
