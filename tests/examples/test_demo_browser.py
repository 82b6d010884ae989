"""The demo, in real browsers.

Only these tests need something that pip cannot install, a browser. Without one they are skipped;
``.ci/run`` installs one and fails when any test was skipped.
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
    """Both read each message, and each message once."""
    ann, bob = two
    ann.says("good morning")
    bob.reads("good morning")
    bob.says("<b>good</b> evening")
    ann.reads("<b>good</b> evening")
    assert ann.texts(".what") == bob.texts(".what") == ["good morning", "<b>good</b> evening"]


def test_a_third_person_appears_in_the_lists_and_disappears(demo: RunningDemo, two: tuple[Person, Person]) -> None:
    """The lists of both others show it."""
    ann, bob = two
    with person(demo.url, "Cid") as cid:
        cid.is_in()
        for somebody in (ann, bob):
            somebody.sees("#here .name", "Cid")
        assert ann.texts("#here .name") == ["Ann Lee", "Bob", "Cid"]
    for somebody in (ann, bob):
        eventually(lambda: "Cid" not in somebody.texts("#here .name"), PATIENCE)  # noqa: B023


def test_a_new_room_counts_its_unread_messages(two: tuple[Person, Person]) -> None:
    """The number appears for a member who looks at another room, and disappears when the message is read."""
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


def test_a_private_message_reaches_only_its_recipient(demo: RunningDemo, two: tuple[Person, Person]) -> None:
    """Bob sees it with a number; a third person sees nothing."""
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


def test_a_private_message_to_an_absent_person_is_marked_as_undelivered(
    demo: RunningDemo, two: tuple[Person, Person]
) -> None:
    """Its sender sees why."""
    ann, _ = two
    with person(demo.url, "Cid") as cid:
        cid.is_in()
        ann.opens("here", "Cid")
    ann.sees("#subtitle", "Only you two · offline")
    ann.says("are you there?")
    ann.sees(".note", "not delivered: Cid is offline")
    ann.opens("rooms", "lobby")


def test_the_page_shows_the_latency_that_the_server_measures(two: tuple[Person, Person]) -> None:
    """The server pings after five quiet seconds, and the pill shows the round trip."""
    ann, _ = two
    eventually(lambda: ann.texts("#latency")[0].endswith(" ms"), PATIENCE)


def test_a_name_that_is_in_use_is_refused(demo: RunningDemo, two: tuple[Person, Person]) -> None:
    """4409 is final: the page asks for another name and does not reconnect by itself."""
    with person(demo.url, "Bob") as impostor:
        impostor.sees("#sign-in-error", "That name is taken.")
        assert impostor.state == "connecting"
        impostor.find("#name").clear()
        impostor.find("#name").send_keys("Bob the second\n")
        impostor.is_in()


def test_a_copied_tab_takes_over_and_the_old_one_does_not_reconnect(demo: RunningDemo) -> None:
    """The old tab offers to take over again, and does so when its button is clicked."""
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


def test_the_keyboard_switches_conversations_and_keeps_the_focus(two: tuple[Person, Person]) -> None:
    """Alt and an arrow key switch; the message box keeps the focus."""
    ann, _ = two
    ann.find("#room-name").send_keys("keys\n")
    ann.sees("#title", "# keys")
    script = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown', altKey: true}))"
    ann.driver.execute_script(script)
    eventually(lambda: ann.find("#title").text != "# keys", PATIENCE)
    assert ann.driver.switch_to.active_element.get_attribute("id") == "text"
    ann.opens("rooms", "lobby")


def test_the_page_has_no_errors_and_loads_everything_from_the_demo(
    demo: RunningDemo, two: tuple[Person, Person]
) -> None:
    """The console of the browser has no error."""
    for somebody in two:
        assert somebody.complaints() == []
        loaded = somebody.driver.execute_script(
            "return performance.getEntriesByType('resource').map((one) => one.name)"
        )
        assert loaded
        assert all(str(name).startswith(demo.url) for name in loaded)


def test_both_browsers_reconnect_when_the_server_restarts() -> None:
    """The server drains and starts again on the same port; a message that was written meanwhile arrives."""
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


def test_the_demo_takes_a_higher_port_if_its_own_is_taken() -> None:
    """It prints the address that it uses."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with RunningDemo(port) as demo, urlopen(demo.url) as answer:
            assert demo.port > port
            assert answer.status == 200


def test_on_a_narrow_screen_the_lists_are_drawers(demo: RunningDemo) -> None:
    """A button opens the list of rooms; choosing a room or pressing Escape closes it."""
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
