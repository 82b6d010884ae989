"""A headless browser, and the actions of a person who uses the demo in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.waiting import eventually

__all__ = ["CHROMEDRIVER", "CHROMIUM", "PATIENCE", "Person", "browser", "person"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--window-size=1280,900",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 20.0
"""Seconds to wait at most; a wait ends earlier unless something is broken."""


class Person:
    """A person at the demo's page.

    Args:
        driver: the browser.
        url: the address of the demo.
        name: the name to sign in with.
    """

    def __init__(self, driver: Chrome, url: str, name: str) -> None:
        self.driver = driver
        self.name = name
        driver.get(url)
        field = self.find("#name")
        field.clear()
        field.send_keys(name, Keys.ENTER)

    def find(self, selector: str) -> WebElement:
        """The first element that matches a selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that match a selector, read at once."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
        texts = self.driver.execute_script(script, selector)
        assert isinstance(texts, list)
        return texts

    @property
    def state(self) -> str | None:
        """The state that the pill at the top shows: ``open``, ``waiting``, ``final``…"""
        return self.find("#status").get_attribute("data-state")

    def is_in(self) -> None:
        """Wait until the chat is connected."""
        eventually(lambda: self.state == "open", PATIENCE)

    def sees(self, selector: str, text: str) -> None:
        """Wait until an element that matches a selector has this text."""
        eventually(lambda: text in self.texts(selector) or None, PATIENCE)

    def reads(self, text: str) -> None:
        """Wait for a message in the open conversation that the server has accepted."""
        self.sees(".message:not(.pending) .what", text)

    def says(self, text: str) -> None:
        """Write a message and send it."""
        self.find("#text").send_keys(text, Keys.ENTER)

    def opens(self, pane: str, name: str) -> None:
        """Choose a conversation or a person in a list."""
        eventually(lambda: self._clicks(pane, name), PATIENCE)

    def unread(self, pane: str, name: str) -> str:
        """The number of unread messages shown at a conversation, read at once."""
        script = """
            const rows = [...document.querySelectorAll(`#${arguments[0]} button`)]
            const row = rows.find((one) => one.querySelector(".name")?.textContent === arguments[1])
            return row?.querySelector(".unread")?.textContent ?? ""
        """
        words = str(self.driver.execute_script(script, pane, name)).split()
        return words[0] if words else ""

    def complaints(self) -> list[str]:
        """Errors of scripts, styles and the page's policy; a socket that was cut is not an error of the page."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [
            str(entry["message"]) for entry in entries if entry["source"] in ("javascript", "security", "rendering")
        ]

    def _clicks(self, pane: str, name: str) -> bool:
        row = self._row(pane, name)
        try:
            if row is not None:
                row.click()
        except StaleElementReferenceException:
            # The list has been redrawn meanwhile.
            return False
        return row is not None

    def _row(self, pane: str, name: str) -> WebElement | None:
        path = f"//*[@id='{pane}']//button[.//span[@class='name'][text()='{name}']]"
        found = self.driver.find_elements(By.XPATH, path)
        return found[0] if found else None


@contextmanager
def browser() -> Iterator[Chrome]:
    """A browser that lives until the end of the block."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options=options, service=ChromeService(CHROMEDRIVER)) as driver:
        yield driver


@contextmanager
def person(url: str, name: str) -> Iterator[Person]:
    """A person with a browser of their own, until the end of the block."""
    with browser() as driver:
        yield Person(driver, url, name)
