"""Negotiation: what a client offers, and whether it may do with less.

A server that does not know wsstab.v1 may refuse what it does not know, or select whatever is offered first. So a client
whose attempts fail offers wsstab.v1 and leaves it out in turn, until a server has spoken it once: from then on counters
are at stake, and an ordinary WebSocket would lose messages that nobody counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.protocol import SUBPROTOCOL, Offer

__all__ = ["Negotiation"]


class Negotiation:
    """The subprotocols of one client.

    Args:
        subprotocols: subprotocols of the application, in the order of its preference.

    Attributes:
        spoken: whether the server has spoken wsstab.v1, ever.

    Raises:
        ValueError: a subprotocol that begins with ``wsstab.``.
    """

    def __init__(self, subprotocols: Sequence[str]) -> None:
        for each in subprotocols:
            if each.startswith("wsstab."):
                raise ValueError(f"subprotocols={subprotocols!r}: what begins with 'wsstab.' is reserved")
        self._subprotocols = tuple(subprotocols)
        self._leave_out = False
        self.spoken = False

    def offers(self, offer: Offer) -> tuple[str, ...]:
        """What to offer in ``Sec-WebSocket-Protocol``, in this order.

        Args:
            offer: the session to begin or to resume, if wsstab.v1 is offered.
        """
        return self._subprotocols if self._leave_out else (SUBPROTOCOL, *self._subprotocols, str(offer))

    def succeeded(self) -> None:
        """An attempt has succeeded: the next one offers wsstab.v1."""
        self._leave_out = False

    def failed(self) -> None:
        """An attempt has failed, before the server said anything of wsstab.v1."""
        self._leave_out = not self.spoken and not self._leave_out
