"""No offer and no message harms a session."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from tests.sessions.hostile import INPUTS, Target


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(INPUTS)
def test_a_session_survives_whatever_a_peer_sends(inputs: tuple[list[list[str]], list[str | bytes]]) -> None:
    """It hears it, ignores it, or says that the peer breaks the protocol; nothing grows."""
    Target().attack(*inputs)
