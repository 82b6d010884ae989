"""Many rooms: 1,000 rooms with each client in one of them, and 100 of the clients in nine more rooms."""

from __future__ import annotations

from statistics import median

from ..member import Members
from ..systems import System

ROUNDS = 40


def measure(system: System, *, clients: int = 10_000, rooms: int = 1000, size: int = 128) -> dict[str, float]:
    """Deliveries a second to one room after the other."""
    names = [f"r{number % rooms}" for number in range(clients)]
    for number in range(min(100, clients)):
        names[number] += "".join(f",s{(number + offset) % 100}" for offset in range(9))
    with system.running() as running, Members(running, clients, rooms=names) as members:
        audience = {
            f"r{room}": [members.clients[number] for number in range(room, clients, rooms)] for room in range(ROUNDS)
        }
        for room, who in list(audience.items())[:5]:
            members.broadcast(1, size, room=room, audience=who)
        took = [members.broadcast(1, size, room=room, audience=who).seconds for room, who in audience.items()]
    return {"room broadcasts/s": 1 / median(took), "deliveries/s": clients / rooms / median(took)}
