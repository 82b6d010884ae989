"""Pages of other hosts get no socket, and the log says what to do about it."""

from __future__ import annotations

import pytest

from tests.conftest import MakeLab
from tests.support.lab import Lab
from tests.support.peer import Denied
from tests.support.waiting import eventually


def status_of(lab: Lab, origin: str | None, **headers: str) -> int:
    """The status of a handshake with this origin."""
    extra = [(name.replace("_", "-"), value) for name, value in headers.items()]
    try:
        return lab.connect("/push", origin=origin, headers=extra).answer.status
    except Denied as denied:
        return denied.status if denied.answer.body == b"origin not allowed\n" else -1


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("http://127.0.0.1", 101),
        ("https://127.0.0.1:9999", 101),
        ("http://evil.example", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_by_default_only_the_same_host_is_allowed(lab: MakeLab, origin: str | None, status: int) -> None:
    """Ports do not matter, and a client without an Origin is not a browser."""
    assert status_of(lab(), origin) == status


def test_the_first_refusal_of_each_origin_is_explained(lab: MakeLab) -> None:
    """One warning with both values and the line of configuration that would allow it."""
    made = lab()
    for origin in ("https://evil.example", "https://evil.example", "https://other.example"):
        assert status_of(made, origin) == 403
    warnings = eventually(lambda: [line for line in made.log.splitlines() if "WARNING wsstab" in line])
    assert len(warnings) == 2
    assert "127.0.0.1" in warnings[0]
    assert 'allowed_origins=["same-host", "https://evil.example"]' in warnings[0]
    assert "other.example" in warnings[1]
    assert made.statistics["refused"] == {"allowed_origins": 3}


def test_a_list_allows_only_what_it_names(lab: MakeLab) -> None:
    """A wildcard allows subdomains only, and the server's own host must be named too."""
    made = lab(allowed_origins=["https://app.example.com", "*.example.org"])
    assert status_of(made, "https://app.example.com") == 101
    assert status_of(made, "https://deep.sub.example.org") == 101
    assert status_of(made, "https://example.org") == 403
    assert status_of(made, "http://127.0.0.1") == 403


def test_a_star_allows_everything(lab: MakeLab) -> None:
    """It suits applications that authenticate in another way."""
    assert status_of(lab(allowed_origins="*"), "https://evil.example") == 101


def test_a_forwarded_host_counts_only_from_a_trusted_proxy(lab: MakeLab) -> None:
    """Anybody can send the header; by default this machine is trusted."""
    assert status_of(lab(), "https://app.example", X_Forwarded_Host="app.example") == 101
    assert status_of(lab(trusted_proxies=[]), "https://app.example", X_Forwarded_Host="app.example") == 403


def test_a_refused_origin_reaches_no_handler(lab: MakeLab) -> None:
    """No connection is opened or registered."""
    made = lab()
    status_of(made, "http://evil.example")
    assert made.statistics["opened"] == 0
    assert made.connections == []
