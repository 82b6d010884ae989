"""Drives a server's machines by the steps of a vector: its tables, its sessions and their wires.

What the machines leave to their caller is done here as docs/protocol.md says: an older carrier is cut, and what it
says is not passed on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wsstab.core.frames import Block, Outgoing
from wsstab.core.protocol import Bye, Hello, Offer, Outcome, ViolationError, escaped, negotiate
from wsstab.core.queue import OutboundQueue
from wsstab.core.session import Ending, FloodError, Refusal, Session
from wsstab.hub.sessions import Sessions
from wsstab.types import Event
from wsstab.wires.base import Wire
from wsstab.wires.session import SessionWire
from wsstab.wires.traits import TRAITS

from .vectors import Json, bare, message_of, shown

__all__ = ["Server"]


@dataclass
class Handed:
    """Counts what was handed to carriers, as a sender does."""

    messages: int = 0
    bytes: int = 0


class Carrier(Wire):
    """One WebSocket, which takes everything.

    Args:
        name: its name in the vector.
        did: called with each action on it.

    Attributes:
        host: the session that it was admitted to.
        offer: what its client offered.
        outcome: how it begins.
        why: why the session is new although the client asked for another.
    """

    traits = TRAITS["uvicorn websockets-sansio"]

    def __init__(self, name: str, did: Callable[[Json], None]) -> None:
        super().__init__()
        self.name = name
        self.did = did
        self.host: Host | None = None
        self.offer = Offer(1)
        self.outcome = Outcome.FRESH
        self.why: str | None = None

    def write(self, block: Block) -> None:
        for message in block.messages:
            self.did({"do": "send", "carrier": self.name, "message": shown(message.data)})

    def is_open(self) -> bool:
        return True

    def ping(self, payload: bytes) -> bool:
        return True


class Host:
    """One session, with the handler that is the vector.

    Attributes:
        session: its machine.
        wire: its wire.
        carrier: the newest carrier that was admitted; ``None`` when it has ended.
    """

    def __init__(self, name: str, offer: Offer, options: Json) -> None:
        assert offer.next is not None
        self.handed = Handed()
        self.queue: OutboundQueue[Outgoing] = OutboundQueue(None, options["queue"], options["policy"])
        bounds = {bound: options[bound] for bound in ("max_messages", "max_bytes")}
        self.session = Session(name, offer.next, offer.attempt, self.handed, self.queue, **bounds)
        self.wire = SessionWire(self.session)
        self.wire.on_writable = self.wire.pump
        self.carrier: Carrier | None = None

    def send(self, message: Outgoing) -> None:
        """The handler sends."""
        if self.queue or not self.wire.writable or not self.session.takes(message.size):
            self.queue.put(message)
            self.wire.pump()
        else:
            self.handed.messages += 1
            self.handed.bytes += message.size
            self.wire.send_at_once(message)


class Server:
    """A server, its clients and their clock. Each event of a vector has a method of its name.

    Args:
        options: the options of the vector, with the defaults.
        hello: the fields of a hello that a vector does not change.
    """

    def __init__(self, options: Json, hello: Json) -> None:
        self.options = options
        self.defaults = hello
        self.now = 0.0
        self.sessions: Sessions[Host] = Sessions(options["max_detached"])
        self.hosts: dict[str, Host] = {}
        self.carriers: dict[str, Carrier] = {}
        self.actions: list[Json] = []

    def take(self, step: Json) -> list[Json]:
        """Take a step, and return what follows as a vector would write it."""
        self.now = step.get("now", self.now)
        self.actions = []
        for _ in range(step.get("times", 1)):
            getattr(self, step["event"])(step)
        return self.actions

    def decide(self, what: str, **fields: str | None) -> None:
        """Note a decision."""
        self.note({"decide": what} | bare(fields))

    def note(self, action: Json) -> None:
        """Note an action."""
        self.actions.append(action)

    # Carriers.

    def offered(self, step: Json) -> None:
        """A handshake arrives."""
        carrier = self.carriers[step["carrier"]] = Carrier(step["carrier"], self.note)
        _, offer = negotiate(step["subprotocols"])
        if offer is None:
            self.decide("plain")
            return
        carrier.offer = offer
        found = self.sessions.find(offer, self.now)
        if isinstance(found, Refusal):
            self.decide("refuse", why=found.why, again=found.again)
        elif found is None:
            self._begin(carrier, offer)
        else:
            self._admit(carrier, found, offer)

    def _begin(self, carrier: Carrier, offer: Offer) -> None:
        name = f"session-{len(self.hosts) + 1}"
        host = carrier.host = self.hosts[name] = Host(name, offer, self.options)
        host.carrier = carrier
        carrier.why = None if offer.session is None else "unknown"
        self.sessions.add(host)
        self.decide("begin", session=name)

    def _admit(self, carrier: Carrier, host: Host, offer: Offer) -> None:
        if host.carrier is not None:
            self.note({"do": "cut", "carrier": host.carrier.name})
        carrier.outcome = Outcome.RESUMED if host.session.name == offer.session else Outcome.FRESH
        carrier.host, host.carrier = host, carrier
        host.wire.detach_carrier()
        host.session.admit(offer.attempt)
        self.sessions.detach(host)
        self.decide("attach", session=host.session.name, outcome=carrier.outcome.value)

    def accepted(self, step: Json) -> None:
        """The accept is through."""
        carrier = self.carriers[step["carrier"]]
        host = self._host_of(carrier)
        if host is None:
            return
        session, times = host.session, self.defaults
        hello = Hello(
            session.name,
            carrier.outcome,
            session.received,
            session.lost,
            times["ping"],
            times["timeout"],
            times["window"],
            session.ack_due,
            times["max"],
            why=carrier.why,
        )
        host.wire.attach(carrier, carrier.offer.received if carrier.outcome is Outcome.RESUMED else 0, hello)
        self.sessions.attached(host)

    def heard(self, step: Json) -> None:
        """A message of the client arrives; after the end of the handler nobody gets it."""
        host = self._host_of(self.carriers[step["carrier"]])
        if host is None:
            return
        message = message_of(step["message"], self.defaults)
        event: Event = {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}
        try:
            heard = host.wire.hear(event, self.now, step.get("quiet", False))
        except (ViolationError, FloodError) as error:
            code = 1008 if isinstance(error, FloodError) else 1002
            self.note({"do": "close", "carrier": step["carrier"], "code": code})
            return
        if heard is not None and host.session.goodbye is None:
            received = heard["text"] if "text" in heard else heard["bytes"]
            self.note({"tell": "message", "message": shown(received)})

    def ended(self, step: Json) -> None:
        """A carrier has ended."""
        host = self._host_of(self.carriers[step["carrier"]])
        if host is None:
            return
        host.carrier = None
        ending = host.session.closed(step["code"], step.get("by") == "server")
        if ending is Ending.OVER:
            self._end(host, answered=True)
            self.decide("over", session=host.session.name)
            return
        host.wire.detach_carrier()
        oldest = self.sessions.detach(host)
        window = "reload_window" if ending is Ending.RELOAD else "window"
        self.decide("wait", session=host.session.name, window=window if host.session.confirmed else "unconfirmed")
        if oldest is not None:
            self._end(oldest, answered=False)
            self.decide("forget", session=oldest.session.name)

    def _host_of(self, carrier: Carrier) -> Host | None:
        host = carrier.host
        return host if host is not None and host.carrier is carrier else None

    def _end(self, host: Host, answered: bool) -> None:
        self.sessions.remove(host, self.now, answered)
        host.session.end()
        host.wire.detach_carrier()
        host.carrier = None

    # Sessions.

    def send(self, step: Json) -> None:
        """The handler sends."""
        message = message_of(step["message"], self.defaults)
        self._session(step).send(Outgoing(escaped(message) if isinstance(message, str) else message))

    def finished(self, step: Json) -> None:
        """The handler ends."""
        host = self._session(step)
        host.session.handler_ended(Bye(step["code"], step.get("reason", ""), step.get("again")))
        host.wire.pump()

    def ping(self, step: Json) -> None:
        """The heartbeat is due."""
        self._session(step).wire.ping(b"ping")

    def window_ended(self, step: Json) -> None:
        """The server waits no longer."""
        self._end(self._session(step), answered=False)

    def _session(self, step: Json) -> Host:
        return self.hosts[step["session"]]
