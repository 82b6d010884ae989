"""Networks: what an entry stands for, and what was meant."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from wsstab.core.networks import correction, network_of


@pytest.mark.parametrize(
    ("entry", "network"),
    [
        ("10.0.0.5", "10.0.0.5/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:10.0.0.5", "10.0.0.5/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::/0", "::/0"),
    ],
)
def test_an_entry_stands_for_a_network(entry: str, network: str) -> None:
    """An address is a network of one; IPv4 that is written as IPv6 is IPv4."""
    assert network_of(entry) == ip_network(network)


@pytest.mark.parametrize("entry", ["", "localhost", "10.0.0.5/8", "10.0.0.5:80", "10.0.0.0/33"])
def test_an_entry_that_stands_for_none_is_refused_by_name(entry: str) -> None:
    """Names are not resolved, and what is left of a network need be 0."""
    with pytest.raises(ValueError, match=r"trusted_proxies: .*must be"):
        network_of(entry)


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        (" 10.0.0.5 ", "10.0.0.5"),
        ("10.0.0.5:8080", "10.0.0.5"),
        ("[2001:db8::1]:8080", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("10.0.0.5/8", "10.0.0.0/8"),
        (" * ", "*"),
        ("10.0.0.5", None),
        ("10.0.0.0/8", None),
        ("*", None),
        ("localhost", None),
        ("[]", None),
    ],
)
def test_what_was_meant_is_told_where_it_is_plain(entry: str, meant: str | None) -> None:
    """Not where it is right, and not where it would be a guess."""
    assert correction(entry) == meant
