"""A page of NiceGUI in Chromium, bare and wrapped; NiceGUI is built on python-socketio and FastAPI.

As for the demo's pages, a browser is needed: ``.ci/run`` installs one and fails when a test was skipped.
"""

from __future__ import annotations

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.composition.case import BARE, WRAPPED
from tests.composition.rows import SERVERS
from tests.conftest import MakeServer
from tests.examples.browsing import CHROMEDRIVER, CHROMIUM, PATIENCE, browser
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver")


def text(driver: Chrome, selector: str) -> str:
    """The text of an element, read in one go."""
    return str(driver.execute_script("return document.querySelector(arguments[0])?.textContent", selector))


def use(server: Server) -> list[str]:
    """Click three times, wait for the server's own pushes, and return the errors of the page."""
    with browser() as driver:
        driver.get("http://{}:{}/page".format(*server.address))
        eventually(lambda: text(driver, ".clicked") == "clicked 0", PATIENCE)
        eventually(lambda: text(driver, ".ticked") not in ("None", "ticked 0"), PATIENCE)
        for number in range(1, 4):
            driver.find_element(By.TAG_NAME, "button").click()
            eventually(lambda: text(driver, ".clicked") == f"clicked {number}", PATIENCE)  # noqa: B023
        if server.options["process"] == WRAPPED:
            eventually(lambda: server.get("/-/count")["heartbeats"] >= 3)
            assert server.get("/-/count")["connections"] == 1
        entries = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [str(entry["message"]) for entry in entries if entry["source"] in ("javascript", "security")]


@pytest.mark.parametrize("kind", [BARE, WRAPPED])
def test_a_page_of_nicegui_works(serve: MakeServer, kind: str) -> None:
    """Events of the browser and pushes of the server arrive, and neither side logs an error."""
    server = serve("tests.composition.apps.nicegui_program:app", SERVERS[0], {"process": kind})
    assert use(server) == []
    if kind == WRAPPED:
        eventually(lambda: server.get("/-/count")["connections"] == 0)
    assert server.complaints() == []
