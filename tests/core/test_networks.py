"""Networks: what an entry of the configuration stands for, and corrections of obvious mistakes."""

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
    """A single address is a network of one address; IPv4 written as IPv6 becomes IPv4."""
    assert network_of(entry) == ip_network(network)


@pytest.mark.parametrize("entry", ["", "localhost", "10.0.0.5/8", "10.0.0.5:80", "10.0.0.0/33"])
def test_an_entry_that_is_not_a_network_is_refused_with_the_option_name(entry: str) -> None:
    """Host names are not resolved, and the bits beyond the prefix length must be 0."""
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
def test_an_obvious_mistake_gets_a_correction(entry: str, meant: str | None) -> None:
    """A correct entry gets none, and neither does one whose correction would be a guess."""
    assert correction(entry) == meant
