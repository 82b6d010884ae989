"""Client addresses: which forwarding headers are believed, and how far."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstab.core.address import MAX_HOPS, ClientAddress, _parsed

LOCAL = ("127.0.0.1", "::1")


def scope_of(client: Any, *headers: tuple[str, str]) -> dict[str, Any]:
    """The scope of a handshake from ``client`` with these headers."""
    return {"client": client, "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]}


def forwarded(value: str, trusted: tuple[str, ...] = LOCAL, peer: str = "127.0.0.1") -> str | None:
    """The client address that is derived for ``peer`` when it sends this X-Forwarded-For."""
    return ClientAddress(trusted).of(scope_of((peer, 1234), ("x-forwarded-for", value)))


@pytest.mark.parametrize("entry", ["", "localhost", "127.0.0.1:80", "10.0.0.1/8", "10.0.0.0/33", "1", "::1/129"])
def test_the_error_names_a_proxy_entry_that_is_not_an_address(entry: str) -> None:
    """A network with bits set beyond its prefix length is refused as well."""
    with pytest.raises(ValueError, match="trusted_proxies: ") as caught:
        ClientAddress(["127.0.0.1", entry])
    assert repr(entry) in str(caught.value)


def test_a_single_string_counts_as_one_entry() -> None:
    """The string is not split into its characters."""
    assert ClientAddress("10.0.0.0/8").of(scope_of(("10.1.1.1", 1), ("x-forwarded-for", "8.8.8.8"))) == "8.8.8.8"


@pytest.mark.parametrize("scope", [{}, {"client": None}, {"client": ()}, {"client": [None, 1]}, {"client": ("", 0)}])
def test_a_peer_without_an_address_has_no_client_address(scope: dict[str, Any]) -> None:
    """A peer behind a Unix socket has none, and a forwarding header does not give it one."""
    scope["headers"] = [(b"x-forwarded-for", b"8.8.8.8")]
    assert ClientAddress(LOCAL).of(scope) is None


@pytest.mark.parametrize("trusted", [(), LOCAL, ("*",)])
def test_a_peer_without_forwarding_headers_is_the_client(trusted: tuple[str, ...]) -> None:
    """This holds for trusted and untrusted peers, and for a scope without a list of headers."""
    assert ClientAddress(trusted).of({"client": ("127.0.0.1", 1234)}) == "127.0.0.1"
    assert ClientAddress(trusted).of(scope_of(["8.8.8.8", 1234])) == "8.8.8.8"
    assert ClientAddress(trusted).of(scope_of(("testclient", 50000))) == "testclient"


def test_each_address_has_one_spelling() -> None:
    """An IPv4-mapped IPv6 address becomes IPv4; an IPv6 address takes its shortest form."""
    assert ClientAddress(()).of(scope_of(("::ffff:8.8.8.8", 1))) == "8.8.8.8"
    assert ClientAddress(()).of(scope_of(("2001:DB8:0:0::1", 1))) == "2001:db8::1"


def test_the_header_of_an_untrusted_peer_is_ignored() -> None:
    """The client itself may have written that header."""
    assert forwarded("1.1.1.1", peer="8.8.8.8") == "8.8.8.8"
    assert forwarded("1.1.1.1", trusted=()) == "127.0.0.1"
    assert forwarded("1.1.1.1", peer="testclient") == "testclient"


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("  8.8.8.8\t", "8.8.8.8"),
        ("8.8.8.8:1234", "8.8.8.8"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("[::ffff:8.8.8.8]:1", "8.8.8.8"),
        ("1.1.1.1, 8.8.8.8", "8.8.8.8"),
        ("1.1.1.1, 8.8.8.8, 127.0.0.1", "8.8.8.8"),
        ("1.1.1.1, 8.8.8.8,::1 , 127.0.0.1", "8.8.8.8"),
        ("127.0.0.1, ::1", "127.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_the_client_is_the_first_untrusted_address_from_the_right(header: str, address: str) -> None:
    """Where all addresses are trusted, it is the left-most one. Entries further left may be forged by the client."""
    assert forwarded(header) == address


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "unknown",
        "_hidden",
        "1.1.1",
        "1.1.1.1.1",
        "256.1.1.1",
        "01.1.1.1",
        "1",
        "1.1.1.1:x",
        "1.1.1.1:123456",
        "[::1",
        "::1]",
        "[::1]x",
        "fe80::1%eth0",
        "\xb2.1.1.1",
        '"8.8.8.8"',
        "8.8.8.8 8.8.4.4",
        "a" * 100_000,
    ],
)
def test_the_walk_stops_at_an_entry_that_is_not_an_address(junk: str) -> None:
    """The entry to the right of it is the client; without one, the peer is."""
    assert forwarded(junk) == "127.0.0.1"
    assert forwarded(f"1.1.1.1, {junk}") == "127.0.0.1"
    assert forwarded(f"1.1.1.1, {junk}, ::1") == "::1"


def test_several_lines_of_the_header_are_read_as_one() -> None:
    """A proxy may add a line of its own instead of extending the existing one."""
    scope = scope_of(("127.0.0.1", 1), ("x-forwarded-for", "1.1.1.1"), ("X-Forwarded-For", "8.8.8.8, ::1"))
    assert ClientAddress(LOCAL).of(scope) == "8.8.8.8"


def test_every_address_in_a_trusted_network_is_trusted() -> None:
    """The networks may be IPv4, IPv6, or IPv4 written as IPv6."""
    trusted = ("10.0.0.0/8", "fd00::/8", "::ffff:192.168.0.0/112", "::ffff:172.16.0.1")
    header = "1.1.1.1, 8.8.8.8, fd00::5, 192.168.4.4, 172.16.0.1, 10.2.3.4"
    assert forwarded(header, trusted, peer="::ffff:10.9.9.9") == "8.8.8.8"
    assert forwarded(header, trusted, peer="172.16.0.2") == "172.16.0.2"


def test_a_network_of_all_ipv6_addresses_trusts_no_ipv4_peer() -> None:
    """``::/0`` is wider than the range of IPv4-mapped addresses, so it stays an IPv6 network."""
    assert forwarded("1.1.1.1", ("::/0",), peer="::ffff:8.8.8.8") == "8.8.8.8"


def test_a_star_trusts_every_peer() -> None:
    """The client is then the left-most address, also behind a Unix socket."""
    assert forwarded("1.1.1.1, 8.8.8.8", ("*",), peer="9.9.9.9") == "1.1.1.1"
    assert ClientAddress(["*"]).of(scope_of(None, ("x-forwarded-for", "1.1.1.1"))) == "1.1.1.1"


def test_the_number_of_examined_hops_is_limited() -> None:
    """Hops are counted from the right, because a client may add any number of entries on the left."""
    assert forwarded(", ".join(["1.1.1.1"] + ["127.0.0.1"] * (MAX_HOPS - 1))) == "1.1.1.1"
    assert forwarded(", ".join(["1.1.1.1"] + ["127.0.0.1"] * MAX_HOPS)) == "127.0.0.1"
    many = ", ".join(f"10.0.{number // 256}.{number % 256}" for number in range(1000))
    assert forwarded(many, ("*",)) == "10.0.3.132"


def test_a_client_address_set_by_the_server_is_kept() -> None:
    """uvicorn replaces the proxy by the client, with port 0; reading the same header again leads to the same client."""
    scope = scope_of(("8.8.8.8", 0), ("x-forwarded-for", "1.1.1.1, 8.8.8.8"))
    assert ClientAddress(LOCAL).of(scope) == "8.8.8.8"


def test_a_client_address_set_by_the_server_may_be_a_trusted_proxy() -> None:
    """A server that trusts fewer proxies stops at one of ours, and the walk continues from there."""
    scope = scope_of(("10.0.0.5", 0), ("x-forwarded-for", "8.8.8.8, 10.0.0.5"))
    assert ClientAddress(["10.0.0.0/8"]).of(scope) == "8.8.8.8"


HOSTS = (("host", "backend:8000"), ("x-forwarded-host", "example.com, inner.example"))


@pytest.mark.parametrize("client", [("127.0.0.1", 1234), ["127.0.0.1", 1234], ("127.0.0.1", "1234")])
def test_the_forwarded_host_of_a_trusted_proxy_counts(client: object) -> None:
    """Only its first value counts, and it is listed after the Host header."""
    assert ClientAddress(LOCAL).forwarded_host(scope_of(client, *HOSTS)) == ["backend:8000", "example.com"]


@pytest.mark.parametrize(
    "client", [("8.8.8.8", 1234), ("127.0.0.1", 0), ("127.0.0.1", "0"), ("8.8.8.8", 0), ("127.0.0.1",), None]
)
def test_the_forwarded_host_of_any_other_client_is_ignored(client: object) -> None:
    """A client with port 0 is ignored too: the server took it from a header, and the sender of that is unknown."""
    assert ClientAddress(LOCAL).forwarded_host(scope_of(client, *HOSTS)) == ["backend:8000"]


@pytest.mark.parametrize("client", [("8.8.8.8", 1234), ("8.8.8.8", 0), None])
def test_the_forwarded_host_counts_where_every_peer_is_trusted(client: object) -> None:
    """It then does not matter which peer sent the header."""
    assert ClientAddress(["*"]).forwarded_host(scope_of(client, *HOSTS)) == ["backend:8000", "example.com"]


def test_the_peer_given_by_the_wire_overrides_the_client_in_the_scope() -> None:
    """The wire knows the other end of the TCP connection: its address alone decides whether the header counts."""
    addresses = ClientAddress(LOCAL)
    assert addresses.forwarded_host(scope_of(("8.8.8.8", 0), *HOSTS), peer="127.0.0.1")[1:] == ["example.com"]
    assert addresses.forwarded_host(scope_of(("127.0.0.1", 1234), *HOSTS), peer="8.8.8.8")[1:] == []


def test_empty_hosts_and_a_second_host_header_are_left_out() -> None:
    """An empty first value of X-Forwarded-Host is not replaced by the next one."""
    addresses = ClientAddress(["*"])
    assert addresses.forwarded_host({}) == []
    assert addresses.forwarded_host(scope_of(None, ("host", " "), ("x-forwarded-host", ", a.example"))) == []
    assert addresses.forwarded_host(scope_of(None, ("host", " a "), ("host", "b"))) == ["a"]


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "::1",
        "fd12::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
    ],
)
def test_internal_and_local_addresses_are_private(address: str) -> None:
    """A connection from such an address may have come through a proxy."""
    assert ClientAddress.is_private(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "203.0.113.1", "2001:db8::1", "::ffff:8.8.8.8", "testclient", "", None]
)
def test_other_addresses_are_not_private(address: str | None) -> None:
    """Text that is not an address is not private either."""
    assert not ClientAddress.is_private(address)


peers = st.one_of(st.none(), st.text(), st.ip_addresses().map(str))
trusts = st.sampled_from([(), LOCAL, ("*",), ("0.0.0.0/0", "::/0")])


@settings(deadline=None)
@given(peers, st.text(st.characters(max_codepoint=255)), trusts)
def test_no_forwarding_header_raises_an_error(peer: str | None, header: str, trusted: tuple[str, ...]) -> None:
    """A client may send any text, from any peer."""
    scope = scope_of((peer, 1), ("x-forwarded-for", header), ("x-forwarded-host", header))
    addresses = ClientAddress(trusted)
    addresses.forwarded_host(scope)
    address = addresses.of(scope)
    assert address is None or isinstance(address, str)


@settings(deadline=None)
@given(st.lists(st.ip_addresses(v=4).filter(lambda address: not address.is_loopback), min_size=1), st.integers(0, 5))
def test_a_client_cannot_forge_its_address_behind_trusted_proxies(addresses: list[object], hops: int) -> None:
    """Whatever it writes, the outermost proxy appends the client's real address, and the walk stops there."""
    header = ", ".join([*map(str, addresses), *["127.0.0.1"] * hops])
    assert forwarded(header) == str(addresses[-1])


def test_the_cache_of_addresses_is_bounded() -> None:
    """Neither many addresses nor long ones make it grow; one header may have 64 KiB."""
    trusting = ClientAddress(["10.0.0.1"])
    _parsed.cache_clear()
    for number in range(3000):
        hop = f"2001:db8::{number:x}" if number % 2 else "f" * (60_000 + number)
        trusting.of({"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", hop.encode())]})
    info = _parsed.cache_info()
    assert info.maxsize is not None
    assert info.currsize <= info.maxsize
    _parsed.cache_clear()
    assert trusting.of({"client": ("f" * 60_000, 1), "headers": []}) == "f" * 60_000
    assert _parsed.cache_info().currsize == 0
