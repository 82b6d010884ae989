"""Sites: what names one, what an entry of the list stands for, and what was meant."""

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
    """Scheme and port where it has them, in small letters."""
    assert site_of(text) == site


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "example.com/", "example.com:0", "example.com:65536", "a b", "http://", "user@example.com"),
        "a" * (MAX_LENGTH + 1),
    ],
)
def test_what_is_no_site_names_none(text: str) -> None:
    """A path, a port that there is not, and what nobody looks at."""
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
def test_an_entry_allows_the_pages_that_it_stands_for(entry: str, page: str, allows: bool) -> None:
    """What it does not say may be anything."""
    found = site_of(page)
    assert found is not None
    assert entry_of(entry).allows(found) is allows


@pytest.mark.parametrize("entry", ["", "null", "same-host", "https://example.com/path", 5])
def test_an_entry_that_stands_for_none_is_refused_by_name(entry: Any) -> None:
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
def test_what_was_meant_is_told_where_it_is_plain(entry: str, meant: str | None) -> None:
    """Not where it is right, and not where it would be a guess."""
    assert correction(entry) == meant
