"""Rooms: who enters and leaves, in the order of what is said there."""

from __future__ import annotations

from ..connection import DoublePeer, Peer
from ..core.registry import Registry

__all__ = ["Rooms"]


class Rooms:
    """The rooms of a manager.

    Args:
        registry: who is in which room.
    """

    def __init__(self, registry: Registry[Peer]) -> None:
        self._registry = registry

    def enter(self, peer: Peer, room: str) -> None:
        """Put a peer into a room, after all that was broadcast there before; before accept, for then."""
        if peer.is_awaited:
            peer.rooms_joined = {*(peer.rooms_joined or ()), room}
            return
        catch_up(peer)
        self._registry.join(peer, room)
        self.listen(peer)

    def exit(self, peer: Peer, room: str) -> None:
        """Take a peer out of a room, after all that was broadcast there before."""
        if peer.is_awaited:
            peer.rooms_joined = {*(peer.rooms_joined or ())} - {room} or None
            return
        catch_up(peer)
        self._registry.leave(peer, room)

    def listen(self, peer: Peer) -> None:
        """Named or in a room: whoever did that wants messages, whatever protocol it speaks."""
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
    """Give a peer what was said before its audiences change."""
    turn_log = peer.services.turn_log
    if isinstance(peer, DoublePeer):
        # What is in the log for it was awaited when it was said.
        peer.sender.cursor = turn_log.end
    elif turn_log.pending:
        turn_log.catch_up(peer)
