"""The members of one running system, whichever protocol it speaks."""

from __future__ import annotations

import json
from itertools import groupby
from types import TracebackType

from .load import Arrival, Swarm, frame_size
from .systems import Running

__all__ = ["Members"]

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


class Members:
    """Clients that get broadcasts. The first of them, ``control``, also gives the commands.

    Args:
        running: the system.
        count: the number of clients.
        rooms: the rooms that each client joins, in the order of the clients; ``None`` for no rooms.
        deflate: whether they offer permessage-deflate.
    """

    def __init__(self, running: Running, count: int, *, rooms: list[str] | None = None, deflate: bool = False) -> None:
        self.system = running.system
        self.swarm = Swarm(running.port, [DEFLATE] if deflate else ())
        path = "/socket.io/?EIO=4&transport=websocket" if self.system.socketio else "/"
        if rooms is None:
            self.clients = self.swarm.connect(path, count)
        else:
            runs = [(names, len(list(run))) for names, run in groupby(rooms)]
            self.clients = [fd for names, size in runs for fd in self.swarm.connect(f"/?rooms={names}", size)]
        if self.system.socketio:
            for client in self.clients:
                self.swarm.send(client, "40")
        self.swarm.quiet(0.3)
        self.control = self.clients[0]

    def __enter__(self) -> Members:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.swarm.close()

    def message_size(self, size: int) -> int:
        """The size of the frame that carries a payload of this many characters."""
        return frame_size(size + len('42["m",""]') if self.system.socketio else size)

    def say(self, text: str) -> None:
        """Give a command."""
        self.swarm.send(self.control, "42" + json.dumps(["c", text]) if self.system.socketio else text)

    def broadcast(
        self, count: int, size: int, *, room: str | None = None, audience: list[int] | None = None
    ) -> Arrival:
        """Have this many messages sent, and wait until the whole audience has them."""
        each = count * self.message_size(size)
        text = f"broadcast {count} {size}" + (f" {room}" if room else "")
        clients = self.clients if audience is None else audience
        return self.swarm.gather(lambda: self.say(text), dict.fromkeys(clients, each))

    def broadcast_json(self, count: int, size: int) -> Arrival:
        """The same with JSON, and frames of a size that only the server knows."""
        return self.swarm.gather_frames(lambda: self.say(f"json {count} {size}"), self.clients, count)

    def stall(self) -> float:
        """The longest stall of the server's loop since the last call, in milliseconds."""
        self.swarm.send(self.control, "stall")
        return float(self.swarm.receive_text(self.control))
