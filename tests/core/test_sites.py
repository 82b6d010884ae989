"""Sites: which texts name one, which pages an entry allows, and corrections of obvious mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from wsstab.core.sites import MAX_LENGTH, Site, correction, entry_of, site_of


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("example.com", Site(None, "example.com", None)),
        ("HTTPS://Example.COM.", Site("https", "example.com", None)),
        ("http://example.com:8080", Site("http", "example.com", 8080)),
        ("*.example.com", Site(None, "*.example.com", None)),
        ("wss://[2001:db8::1]:443", Site("wss", "[2001:db8::1]", 443)),
        ("bücher.example", Site(None, "bücher.example", None)),
    ],
)
def test_a_text_names_a_site(text: str, site: Site) -> None:
    """It may have a scheme and a port; letters become lower case."""
    assert site_of(text) == site


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "example.com/", "example.com:0", "example.com:65536", "a b", "http://", "user@example.com"),
        "a" * (MAX_LENGTH + 1),
    ],
)
def test_other_texts_name_no_site(text: str) -> None:
    """They have a path or an invalid port, for example, or are too long to be examined."""
    assert site_of(text) is None


@pytest.mark.parametrize(
    ("entry", "page", "allows"),
    [
        ("example.com", "https://example.com", True),
        ("example.com", "https://sub.example.com", False),
        ("*.example.com", "https://sub.example.com", True),
        ("*.example.com", "https://example.com", False),
        ("https://example.com", "http://example.com", False),
        ("example.com:8443", "https://example.com:8443", True),
        ("example.com:8443", "https://example.com:9443", False),
    ],
)
def test_an_entry_allows_the_pages_it_describes(entry: str, page: str, allows: bool) -> None:
    """The parts that an entry leaves out may be anything."""
    found = site_of(page)
    assert found is not None
    assert entry_of(entry).allows(found) is allows


@pytest.mark.parametrize("entry", ["", "null", "same-host", "https://example.com/path", 5])
def test_an_entry_that_describes_no_page_is_refused_with_the_option_name(entry: Any) -> None:
    """The error says what is allowed."""
    with pytest.raises(ValueError, match=r"allowed_origins: .*must be"):
        entry_of(entry)


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        (" Example.com ", "example.com"),
        ("https://user@example.com/path?query#part", "https://example.com"),
        (".example.com", "*.example.com"),
        ("*example.com", "*.example.com"),
        (" * ", "*"),
        ("Same-Host", "same-host"),
        ("example.com", None),
        ("*.example.com", None),
        ("null", None),
        ("https://null/", None),
        ("a@b@c", None),
        ("https://a b/", None),
    ],
)
def test_an_obvious_mistake_gets_a_correction(entry: str, meant: str | None) -> None:
    """A correct entry gets none, and neither does one whose correction would be a guess."""
    assert correction(entry) == meant
