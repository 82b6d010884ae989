"""Client addresses: who is believed, and how far."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstab.core.address import MAX_HOPS, ClientAddress, _parsed

LOCAL = ("127.0.0.1", "::1")


def scope_of(client: Any, *headers: tuple[str, str]) -> dict[str, Any]:
    """The scope of a handshake."""
    return {"client": client, "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]}


def forwarded(value: str, trusted: tuple[str, ...] = LOCAL, peer: str = "127.0.0.1") -> str | None:
    """Who a peer with this X-Forwarded-For is taken for."""
    return ClientAddress(trusted).of(scope_of((peer, 1234), ("x-forwarded-for", value)))


@pytest.mark.parametrize("entry", ["", "localhost", "127.0.0.1:80", "10.0.0.1/8", "10.0.0.0/33", "1", "::1/129"])
def test_a_proxy_that_is_no_address_is_refused_by_name(entry: str) -> None:
    """A network with bits after its length is a mistake as well."""
    with pytest.raises(ValueError, match="trusted_proxies: ") as caught:
        ClientAddress(["127.0.0.1", entry])
    assert repr(entry) in str(caught.value)


def test_one_string_is_one_entry() -> None:
    """It is not taken apart into letters."""
    assert ClientAddress("10.0.0.0/8").of(scope_of(("10.1.1.1", 1), ("x-forwarded-for", "8.8.8.8"))) == "8.8.8.8"


@pytest.mark.parametrize("scope", [{}, {"client": None}, {"client": ()}, {"client": [None, 1]}, {"client": ("", 0)}])
def test_a_peer_without_an_address_is_nobody(scope: dict[str, Any]) -> None:
    """As behind a Unix socket; a header changes nothing."""
    scope["headers"] = [(b"x-forwarded-for", b"8.8.8.8")]
    assert ClientAddress(LOCAL).of(scope) is None


@pytest.mark.parametrize("trusted", [(), LOCAL, ("*",)])
def test_a_peer_without_headers_is_itself(trusted: tuple[str, ...]) -> None:
    """Trusted or not; a scope may even have no headers."""
    assert ClientAddress(trusted).of({"client": ("127.0.0.1", 1234)}) == "127.0.0.1"
    assert ClientAddress(trusted).of(scope_of(["8.8.8.8", 1234])) == "8.8.8.8"
    assert ClientAddress(trusted).of(scope_of(("testclient", 50000))) == "testclient"


def test_a_peer_is_written_in_one_way() -> None:
    """IPv4 on a socket that listens on IPv6 is IPv4; IPv6 is as short as it can be."""
    assert ClientAddress(()).of(scope_of(("::ffff:8.8.8.8", 1))) == "8.8.8.8"
    assert ClientAddress(()).of(scope_of(("2001:DB8:0:0::1", 1))) == "2001:db8::1"


def test_a_peer_that_is_not_trusted_is_not_believed() -> None:
    """Its header is what the client wrote."""
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
def test_a_trusted_peer_is_believed_as_far_as_the_first_stranger(header: str, address: str) -> None:
    """From the right, over our own proxies; what the client wrote is on the left of it."""
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
def test_junk_ends_the_walk_at_the_last_good_entry(junk: str) -> None:
    """It is the peer's own address when nothing good came before."""
    assert forwarded(junk) == "127.0.0.1"
    assert forwarded(f"1.1.1.1, {junk}") == "127.0.0.1"
    assert forwarded(f"1.1.1.1, {junk}, ::1") == "::1"


def test_all_lines_of_the_header_are_one() -> None:
    """Proxies may add a line of their own rather than extend the one that is there."""
    scope = scope_of(("127.0.0.1", 1), ("x-forwarded-for", "1.1.1.1"), ("X-Forwarded-For", "8.8.8.8, ::1"))
    assert ClientAddress(LOCAL).of(scope) == "8.8.8.8"


def test_networks_are_trusted_whole() -> None:
    """IPv4, IPv6, and IPv4 written as IPv6."""
    trusted = ("10.0.0.0/8", "fd00::/8", "::ffff:192.168.0.0/112", "::ffff:172.16.0.1")
    header = "1.1.1.1, 8.8.8.8, fd00::5, 192.168.4.4, 172.16.0.1, 10.2.3.4"
    assert forwarded(header, trusted, peer="::ffff:10.9.9.9") == "8.8.8.8"
    assert forwarded(header, trusted, peer="172.16.0.2") == "172.16.0.2"


def test_a_mapped_network_wider_than_ipv4_is_taken_as_it_is() -> None:
    """It is no IPv4 network, and trusts no IPv4 peer."""
    assert forwarded("1.1.1.1", ("::/0",), peer="::ffff:8.8.8.8") == "8.8.8.8"


def test_a_star_trusts_everybody() -> None:
    """The left-most address is the client, also behind a Unix socket."""
    assert forwarded("1.1.1.1, 8.8.8.8", ("*",), peer="9.9.9.9") == "1.1.1.1"
    assert ClientAddress(["*"]).of(scope_of(None, ("x-forwarded-for", "1.1.1.1"))) == "1.1.1.1"


def test_a_limited_number_of_hops_is_looked_at() -> None:
    """From the right: the client may write as many as it likes on the left."""
    assert forwarded(", ".join(["1.1.1.1"] + ["127.0.0.1"] * (MAX_HOPS - 1))) == "1.1.1.1"
    assert forwarded(", ".join(["1.1.1.1"] + ["127.0.0.1"] * MAX_HOPS)) == "127.0.0.1"
    many = ", ".join(f"10.0.{number // 256}.{number % 256}" for number in range(1000))
    assert forwarded(many, ("*",)) == "10.0.3.132"


def test_a_client_that_the_server_put_in_is_taken() -> None:
    """As uvicorn does, with port 0; the header that it read does not lead anywhere else."""
    scope = scope_of(("8.8.8.8", 0), ("x-forwarded-for", "1.1.1.1, 8.8.8.8"))
    assert ClientAddress(LOCAL).of(scope) == "8.8.8.8"


def test_a_client_that_the_server_put_in_may_be_a_proxy_of_ours() -> None:
    """A server that trusts less than we do stops at it; the walk goes on from there."""
    scope = scope_of(("10.0.0.5", 0), ("x-forwarded-for", "8.8.8.8, 10.0.0.5"))
    assert ClientAddress(["10.0.0.0/8"]).of(scope) == "8.8.8.8"


HOSTS = (("host", "backend:8000"), ("x-forwarded-host", "example.com, inner.example"))


@pytest.mark.parametrize("client", [("127.0.0.1", 1234), ["127.0.0.1", 1234], ("127.0.0.1", "1234")])
def test_the_forwarded_host_of_a_trusted_proxy_counts(client: object) -> None:
    """Its first value, after the Host header."""
    assert ClientAddress(LOCAL).forwarded_host(scope_of(client, *HOSTS)) == ["backend:8000", "example.com"]


@pytest.mark.parametrize(
    "client", [("8.8.8.8", 1234), ("127.0.0.1", 0), ("127.0.0.1", "0"), ("8.8.8.8", 0), ("127.0.0.1",), None]
)
def test_the_forwarded_host_of_anybody_else_does_not(client: object) -> None:
    """Nor that of a client with port 0, which the server made of a header from we do not know whom."""
    assert ClientAddress(LOCAL).forwarded_host(scope_of(client, *HOSTS)) == ["backend:8000"]


@pytest.mark.parametrize("client", [("8.8.8.8", 1234), ("8.8.8.8", 0), None])
def test_the_forwarded_host_counts_where_everybody_is_trusted(client: object) -> None:
    """There is nothing to be certain of then."""
    assert ClientAddress(["*"]).forwarded_host(scope_of(client, *HOSTS)) == ["backend:8000", "example.com"]


def test_a_wire_may_tell_who_the_peer_really_is() -> None:
    """Then it does not matter what the server made of the client, in either direction."""
    addresses = ClientAddress(LOCAL)
    assert addresses.forwarded_host(scope_of(("8.8.8.8", 0), *HOSTS), peer="127.0.0.1")[1:] == ["example.com"]
    assert addresses.forwarded_host(scope_of(("127.0.0.1", 1234), *HOSTS), peer="8.8.8.8")[1:] == []


def test_hosts_that_are_not_there_are_not_listed() -> None:
    """No empty names, and one Host header at most."""
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
def test_private_addresses_are_those_of_neighbours(address: str) -> None:
    """A connection from one has come through something that may be a proxy."""
    assert ClientAddress.is_private(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "203.0.113.1", "2001:db8::1", "::ffff:8.8.8.8", "testclient", "", None]
)
def test_other_addresses_are_not_private(address: str | None) -> None:
    """Nor is what is no address."""
    assert not ClientAddress.is_private(address)


peers = st.one_of(st.none(), st.text(), st.ip_addresses().map(str))
trusts = st.sampled_from([(), LOCAL, ("*",), ("0.0.0.0/0", "::/0")])


@settings(deadline=None)
@given(peers, st.text(st.characters(max_codepoint=255)), trusts)
def test_no_header_raises(peer: str | None, header: str, trusted: tuple[str, ...]) -> None:
    """Whatever a client sends."""
    scope = scope_of((peer, 1), ("x-forwarded-for", header), ("x-forwarded-host", header))
    addresses = ClientAddress(trusted)
    addresses.forwarded_host(scope)
    address = addresses.of(scope)
    assert address is None or isinstance(address, str)


@settings(deadline=None)
@given(st.lists(st.ip_addresses(v=4).filter(lambda address: not address.is_loopback), min_size=1), st.integers(0, 5))
def test_what_a_client_writes_changes_nothing(addresses: list[object], hops: int) -> None:
    """Behind any number of our proxies, the entry of the outermost is the client, whatever stands left of it."""
    header = ", ".join([*map(str, addresses), *["127.0.0.1"] * hops])
    assert forwarded(header) == str(addresses[-1])


def test_what_peers_write_is_not_kept_beyond_its_bound() -> None:
    """Neither many addresses nor long ones: a header may have 64 KiB."""
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
