"""Growth: what a delivery costs as there are more clients, and as other rooms grow."""

from __future__ import annotations

from statistics import median

from ..member import Members
from ..systems import System

ROUNDS, WARM_UP = 15, 4
FEW, ROOM = 10, 100


def measure(system: System, *, clients: int = 10_000, size: int = 128) -> dict[str, float]:
    """Microseconds a delivery to all and to a tenth of them, and its growth with more clients or with other rooms."""
    few = clients // FEW
    room = min(ROOM, few)
    with system.running() as running:
        with Members(running, few, rooms=["r"] * room + ["s"] * (few - room)) as members:
            to_few, alone = each(members, size), each(members, size, "r", members.clients[:room])
        with Members(running, clients, rooms=["r"] * room + ["s"] * (clients - room)) as members:
            to_all, beside = each(members, size), each(members, size, "r", members.clients[:room])
    return {
        "µs each": to_all,
        "of a tenth": to_few,
        "growth": to_all / to_few,
        "room growth": beside / alone,
    }


def each(members: Members, size: int, room: str | None = None, audience: list[int] | None = None) -> float:
    """Microseconds a delivery."""
    for _ in range(WARM_UP):
        members.broadcast(1, size, room=room, audience=audience)
    rounds = ROUNDS if audience is None else ROUNDS * 4
    took = median(members.broadcast(1, size, room=room, audience=audience).seconds for _ in range(rounds))
    return took / len(members.clients if audience is None else audience) * 1e6
