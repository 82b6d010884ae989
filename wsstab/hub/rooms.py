"""Rooms: lets peers enter and leave, in order with the broadcasts to them."""

from __future__ import annotations

from ..connection import DoublePeer, Peer
from ..core.registry import Registry

__all__ = ["Rooms"]


class Rooms:
    """The rooms of a manager.

    Args:
        registry: holds the members of each room.
    """

    def __init__(self, registry: Registry[Peer]) -> None:
        self._registry = registry

    def enter(self, peer: Peer, room: str) -> None:
        """Put a peer into a room, after all earlier broadcasts to it. Before accept, the room is noted for accept."""
        if peer.is_awaited:
            peer.rooms_joined = {*(peer.rooms_joined or ()), room}
            return
        catch_up(peer)
        self._registry.join(peer, room)
        self.listen(peer)

    def exit(self, peer: Peer, room: str) -> None:
        """Take a peer out of a room, after all earlier broadcasts to it."""
        if peer.is_awaited:
            peer.rooms_joined = {*(peer.rooms_joined or ())} - {room} or None
            return
        catch_up(peer)
        self._registry.leave(peer, room)

    def listen(self, peer: Peer) -> None:
        """Let a peer get broadcasts: its handler has named it or put it into a room, so it expects them."""
        if peer.config.broadcast and not peer.accepts_broadcasts:
            peer.accepts_broadcasts = True
            catch_up(peer)
            self._registry.listen(peer)

    def of(self, client_id: str) -> list[str]:
        """The rooms of a client, sorted."""
        return sorted({room for peer in self._registry.find_all(client_id) for room in peer.rooms_joined or ()})

    def members(self, room: str) -> list[str]:
        """The client ids in a room, each once."""
        return list(dict.fromkeys(peer.client_id for peer in list(self._registry.members(room))))


def catch_up(peer: Peer) -> None:
    """Give a peer all earlier broadcasts, before the audiences it is in change."""
    turn_log = peer.services.turn_log
    if isinstance(peer, DoublePeer):
        # A double is awaited by each broadcast, so the log holds nothing for it.
        peer.sender.cursor = turn_log.end
    elif turn_log.pending:
        turn_log.catch_up(peer)
