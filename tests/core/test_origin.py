"""Origins: which pages may connect, which may not, and which values are no origin at all."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstab.core.origin import OriginPolicy

HOST = ["example.com"]


@pytest.mark.parametrize("allowed", ["*", "same-host", [], ["example.com"]])
def test_a_request_without_an_origin_passes(allowed: str | list[str]) -> None:
    """It does not come from a browser, and only a browser can be misused by a page."""
    assert OriginPolicy(allowed).check(None, HOST)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "what is this"])
def test_a_star_allows_every_origin(origin: str) -> None:
    """It may stand alone or in a list, and also allows values that are not origins."""
    assert OriginPolicy("*").check(origin, [])
    assert OriginPolicy(["example.com", "*"]).check(origin, [])


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://example.com", "example.com"),
        ("http://example.com:3000", "example.com:8000"),
        ("https://EXAMPLE.com", "Example.COM"),
        ("https://example.com.", "example.com"),
        ("https://example.com", "example.com.:443"),
        ("http://[::1]:3000", "[::1]:8000"),
        ("http://127.0.0.1:3000", "127.0.0.1"),
        ("http://localhost:3000", "localhost:8000"),
        ("https://xn--w-uga1v8h.example", "xn--w-uga1v8h.example"),
        ("https://żółw.example", "żółw.example"),
        ("capacitor://localhost", "localhost"),
        ("https://under_score.example", "under_score.example"),
    ],
)
def test_a_page_of_the_same_host_passes(origin: str, host: str) -> None:
    """Ports, case and a trailing dot do not matter."""
    assert OriginPolicy("same-host").check(origin, [host])


@pytest.mark.parametrize(
    ("origin", "hosts"),
    [
        ("https://evil.example", ["example.com"]),
        ("https://example.com.evil.example", ["example.com"]),
        ("https://sub.example.com", ["example.com"]),
        ("https://example.com", ["sub.example.com"]),
        ("http://[::2]", ["[::1]"]),
        ("https://example.com", []),
        ("https://example.com", ["exa mple.com", ""]),
        ("https://*.example.com", ["*.example.com"]),
    ],
)
def test_a_page_of_another_host_is_refused(origin: str, hosts: list[str]) -> None:
    """It does not matter how similar the names look."""
    assert not OriginPolicy("same-host").check(origin, hosts)


def test_one_matching_host_of_a_request_is_enough() -> None:
    """Behind a proxy there are two: the host of the backend, and the host that the client asked for."""
    assert OriginPolicy("same-host").check("https://example.com", ["backend:8000", "example.com"])


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "example.com",
        "https://",
        "https://example.com/",
        "https://example.com/path",
        "https://user@example.com",
        "https://example.com:",
        "https://example.com:0",
        "https://example.com:65536",
        "https://example.com:http",
        "https://example.com https://evil.example",
        "https://example.com,https://evil.example",
        " https://example.com",
        "https://example.com\n",
        "https://example..com",
        "https://*.example.com",
        "file://",
        "https://" + "a" * 300,
        "https://[::1",
        "https://" + "." * 100_000,
    ],
)
@pytest.mark.parametrize("allowed", ["same-host", ["example.com", "*.example.com"]])
def test_a_value_that_is_not_an_origin_is_refused(origin: str, allowed: str | list[str]) -> None:
    """It is not interpreted as an origin that it might have meant."""
    assert not OriginPolicy(allowed).check(origin, [*HOST, origin])


@pytest.mark.parametrize(
    ("entry", "origin", "passes"),
    [
        ("example.com", "https://example.com", True),
        ("example.com", "http://example.com:3000", True),
        ("Example.com.", "https://example.com", True),
        ("example.com", "https://sub.example.com", False),
        ("example.com", "https://notexample.com", False),
        ("example.com:8443", "https://example.com:8443", True),
        ("example.com:8443", "https://example.com", False),
        ("example.com:443", "https://example.com", True),
        ("example.com:443", "http://example.com", False),
        ("https://example.com", "https://example.com", True),
        ("https://example.com", "https://example.com:8443", True),
        ("https://example.com", "http://example.com", False),
        ("https://example.com:8443", "https://example.com:8443", True),
        ("https://example.com:8443", "https://example.com:9443", False),
        ("https://example.com:443", "https://example.com", True),
        ("http://example.com:80", "http://example.com", True),
        ("*.example.com", "https://a.example.com", True),
        ("*.example.com", "https://a.b.example.com:3000", True),
        ("*.example.com", "https://example.com", False),
        ("*.example.com", "https://notexample.com", False),
        ("*.example.com", "https://a.example.com.evil.example", False),
        ("https://*.example.com:8443", "https://a.example.com:8443", True),
        ("https://*.example.com:8443", "http://a.example.com:8443", False),
        ("[::1]:3000", "http://[::1]:3000", True),
        ("[::1]:3000", "http://[::1]:3001", False),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", True),
        ("chrome-extension://abcdef", "moz-extension://abcdef", False),
        ("chrome-extension://abcdef:443", "chrome-extension://abcdef", False),
    ],
)
def test_an_entry_allows_exactly_the_origins_it_describes(entry: str, origin: str, passes: bool) -> None:
    """If an entry has a scheme or a port, the page must have the same; a star stands for any subdomain."""
    assert OriginPolicy([entry]).check(origin, HOST[:0]) is passes
    assert OriginPolicy(["other.example", entry]).check(origin, []) is passes


def test_a_list_allows_the_requested_host_only_with_same_host() -> None:
    """``same-host`` may stand in a list beside other entries."""
    assert not OriginPolicy(["other.example"]).check("https://example.com", HOST)
    both = OriginPolicy(["same-host", "other.example"])
    assert both.check("https://example.com", HOST)
    assert both.check("https://other.example", HOST)
    assert not both.check("https://evil.example", HOST)


def test_a_single_string_counts_as_one_entry() -> None:
    """The string is not split into its characters."""
    assert OriginPolicy("other.example").check("https://other.example", HOST)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " ",
        "null",
        "https://",
        "https://a.example/",
        "a.example/path",
        "a b",
        "*.",
        "**.a",
        "a.*",
        "*a.b",
        "a:0",
        ":80",
    ],
)
def test_a_bad_entry_is_named_in_the_error(entry: str) -> None:
    """The error also gives an example of what is allowed."""
    with pytest.raises(ValueError, match="allowed_origins: ") as caught:
        OriginPolicy(["example.com", entry])
    assert repr(entry) in str(caught.value)
    assert '"https://example.com"' in str(caught.value)


def test_an_entry_that_is_not_a_string_is_named_in_the_error() -> None:
    """Lists of origins may come from configuration files."""
    with pytest.raises(ValueError, match="allowed_origins: 80"):
        OriginPolicy([80])  # type: ignore[list-item]


def test_a_hint_adds_the_origin_to_those_already_allowed() -> None:
    """Pasted as it is, it refuses no page that was allowed before."""
    assert OriginPolicy([]).hint("https://evil.example") == 'allowed_origins=["https://evil.example"]'
    assert OriginPolicy("same-host").hint("http://LOCALHOST:3000") == (
        'allowed_origins=["same-host", "http://localhost:3000"]'
    )
    assert OriginPolicy(["a.example"]).hint("https://żółw.example") == (
        'allowed_origins=["a.example", "https://żółw.example"]'
    )


@pytest.mark.parametrize("origin", ["null", "", 'x"]\nadmin=["', "https://*.com"])
def test_a_hint_does_not_repeat_an_unreadable_origin(origin: str) -> None:
    """Only a star would allow it, and text from a client must not get into a log."""
    assert OriginPolicy("same-host").hint(origin) == 'allowed_origins="*"'


origins = st.one_of(
    st.text(),
    st.from_regex(r"[a-z]{1,8}://[\w.\-:\[\]*/]{0,20}", fullmatch=True),
    st.from_regex(r"https?://[a-z0-9-]{1,9}(\.[a-z0-9-]{1,9}){0,3}(:[1-9][0-9]{0,3})?", fullmatch=True),
)


@settings(deadline=None)
@given(origins, st.lists(origins, max_size=3))
def test_a_hint_allows_the_origin_it_was_made_for(origin: str, hosts: list[str]) -> None:
    """Nothing that a client sends raises an error, and the printed line works."""
    policy = OriginPolicy("same-host")
    policy.check(origin, hosts)
    line = policy.hint(origin)
    assert OriginPolicy(ast.literal_eval(line.removeprefix("allowed_origins="))).check(origin, hosts)
