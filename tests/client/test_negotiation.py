"""What a client offers, and whether it may do with less."""

from __future__ import annotations

import pytest

from wsstab.client.negotiation import Negotiation
from wsstab.core.protocol import Offer

from .driving import name_of

OFFER = Offer(1, name_of(1))
EVERYTHING = ("wsstab.v1", "chat", str(OFFER))


def test_failures_leave_the_protocol_out_and_put_it_in_again_in_turn() -> None:
    """Until an attempt succeeds; the next one begins with the protocol."""
    negotiation = Negotiation(["chat"])
    offered = [negotiation.offers(OFFER)]
    for _ in range(3):
        negotiation.failed()
        offered.append(negotiation.offers(OFFER))
    assert offered == [EVERYTHING, ("chat",), EVERYTHING, ("chat",)]
    negotiation.succeeded()
    assert negotiation.offers(OFFER) == EVERYTHING


def test_a_server_that_has_spoken_the_protocol_is_always_offered_it() -> None:
    """Even if it first did not."""
    negotiation = Negotiation(["chat"])
    negotiation.failed()
    negotiation.spoken = True
    for _ in range(3):
        negotiation.failed()
        assert negotiation.offers(OFFER) == EVERYTHING


@pytest.mark.parametrize("name", ["wsstab.v1", "wsstab.v2", "wsstab.new.1.a"])
def test_reserved_names_are_refused(name: str) -> None:
    """They would be taken for ours."""
    with pytest.raises(ValueError, match="reserved"):
        Negotiation(["chat", name])
