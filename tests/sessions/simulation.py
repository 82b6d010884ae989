"""A simulation of wsstab.v1: real machines of both sides, a network that hurts, in one thread, by seed.

One random generator chooses every step, so a seed is a schedule, and a failure repeats itself. After every step and at
the end these promises are checked:

  S  a handler got what its client sent in that life: in order, nothing twice, nothing skipped
  C  a client got what its handler said: the same, and was told of what a policy dropped
  H  one handler for each client, and one more for each session that the server forgot (a window ended, a restart)
  L  no life is lost for any other reason
  N  no older attempt takes a session from a newer one
  B  neither side keeps more than its window
  Q  once the network is whole, all that was said has arrived, and the counters of both sides agree

With two servers that know nothing of each other H and L cannot hold; all else must.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from wsstab.client import actions
from wsstab.client.machine import ClientMachine
from wsstab.client.states import ClientState
from wsstab.core.frames import Block, Outgoing
from wsstab.core.protocol import Bye, Hello, Offer, Outcome, escaped, negotiate
from wsstab.core.queue import OutboundQueue, Verdict
from wsstab.core.session import Ending, Refusal, Session, SessionState
from wsstab.hub.sessions import Sessions
from wsstab.types import Event
from wsstab.wires.base import Wire
from wsstab.wires.session import SessionWire
from wsstab.wires.traits import TRAITS

__all__ = ["RULES", "Simulation", "Violation", "first_violation"]

WINDOW = 6
"""Messages that either side keeps; few, so that the bound is met."""
QUEUE = 6
"""Messages that wait on the server for room in the window."""
ACK_EVERY = 3
STEPS = 220
TICK = 0.02
"""Seconds that a step takes."""

RULES = {
    "generation": "nothing of an older carrier is counted or delivered once a newer one is admitted",
    "newest": "an offer whose attempt is not above the last one admitted is late, and refused",
    "server name": "a session is resumed by the name that the server gave it, which no other ever has",
    "same next": "a client offers the same next name until a hello has come",
    "before hello": "a client sends nothing before hello",
    "count first": "data is counted before any policy looks at it",
    "no code": "a close without a code is an abandoned socket: it detaches and ends nothing",
    "window": "beyond the window nothing gets a number",
    "drop unsent": "a policy drops only what has no number",
    "gap": "what was dropped is told before the next message",
    "total": "hello tells the total of what was dropped, because a gap may be lost with its carrier",
    "reset": "at fresh a client's counters begin again",
    "stale socket": "a client hears nothing of a socket that it gave up",
    "finished": "a session that is finished is remembered: a late offer starts no second handler",
    "linger": "what an ended handler still owes is kept for a resume",
    "answered": "a goodbye is answered by the client's close; until then the session lingers",
    "no next": "a client that is about to close offers no next name: what cannot be resumed is over",
    "close answered": "a client's close is over when it was answered; otherwise it resumes, and closes again",
    "replay first": "what is replayed goes before anything new",
}
"""The rules marked in ``docs/protocol.md``; each can be left out."""


class Violation(Exception):
    """A promise was broken."""


class Link:
    """One direction of a carrier: in order, until it falls silent."""

    def __init__(self) -> None:
        self.items: deque[tuple[str, str | bytes | int | None]] = deque()
        self.silent = False

    def put(self, kind: str, value: str | bytes | int | None = None) -> None:
        """Something is on its way."""
        if not self.silent:
            self.items.append((kind, value))


class Carrier(Wire):
    """One WebSocket. Each end has a belief of its own whether it is open.

    Attributes:
        attempt: number of the attempt, by its client.
        arrived: whether its handshake has reached the server.
        pending: whether it was admitted, and its accept is not through.
        host: the host that it was admitted to.
    """

    traits = TRAITS["uvicorn websockets-sansio"]

    def __init__(self, client: Client, attempt: int, subprotocols: Iterable[str]) -> None:
        super().__init__()
        self.client = client
        self.attempt = attempt
        self.subprotocols = list(subprotocols)
        self.server = client.simulation.chance.choice(client.simulation.servers)
        self.up, self.down = Link(), Link()
        self.client_open = self.server_open = True
        self.arrived = self.pending = False
        self.host: Host | None = None
        self.offer: Offer | None = None
        self.outcome = Outcome.FRESH

    def __repr__(self) -> str:
        return f"carrier {self.client.name}{self.attempt}"

    @property
    def busy(self) -> bool:
        """Whether something can happen on it."""
        return bool(self.up.items or self.down.items or self.pending or not self.arrived)

    @property
    def whole(self) -> bool:
        """Whether both ends can still talk."""
        return self.client_open and self.server_open and not (self.up.silent or self.down.silent)

    # The server's end.

    def write(self, block: Block) -> None:
        for message in block.messages:
            self.down.put("message", message.data)

    def is_open(self) -> bool:
        return self.server_open

    def ping(self, payload: bytes) -> bool:
        return True

    def cut(self) -> None:
        """The server lets go of it."""
        self.server_open = self.pending = False
        self.down.put("eof")


@dataclass
class Handed:
    """Counts what was handed to carriers, as a sender does."""

    messages: int = 0
    bytes: int = 0


class BrokenSession(Session):
    """A session without some of its rules.

    Attributes:
        off: the rules that are left out.
        skipped: what was not sent again, under ``replay first``.
    """

    off: frozenset[str] = frozenset()
    skipped: Sequence[Outgoing] = ()

    def attach(self, received: int) -> None:
        super().attach(received)
        if "replay first" in self.off:
            self.skipped = self.unacknowledged.after(received, sys.maxsize)
            self._replaying = None

    def _gap(self) -> list[Outgoing]:
        told = super()._gap()
        return [] if "gap" in self.off else told


class Host:
    """Runs one handler, as a peer does.

    Attributes:
        number: of the handler.
        carrier: the newest that was admitted.
        heard: what the handler got.
        said: how many messages the handler has sent.
        ended: whether the handler has ended.
    """

    def __init__(self, server: Server, number: int, offer: Offer) -> None:
        assert offer.next is not None
        off = server.simulation.off
        self.server = server
        self.number = number
        self.client: Client | None = None
        self.carrier: Carrier | None = None
        self.heard: list[str] = []
        self.said = 0
        self.ended = False
        self.handed = Handed()
        self.queue: OutboundQueue[Outgoing] = OutboundQueue(None, QUEUE, server.simulation.policy)
        self.session = BrokenSession(
            offer.next if "server name" in off else f"s{number}",
            offer.next,
            offer.attempt,
            self.handed,
            self.queue,
            max_messages=1_000_000 if "window" in off else WINDOW,
            max_bytes=1_000_000,
        )
        self.session.off = off
        self.wire = SessionWire(self.session)

    def say(self) -> None:
        """The handler sends."""
        self.said += 1
        message = Outgoing(escaped(f"{self.server.simulation.odd()}{self.number}:{self.said}"))
        if self.queue or not self.wire.writable or not self.session.takes(message.size):
            if self.queue.put(message) is Verdict.DROPPED or self.queue.dropped:
                self._drop_sent()
            self.wire.pump()
        else:
            self.handed.messages += 1
            self.handed.bytes += message.size
            self.wire.send_at_once(message)

    def _drop_sent(self) -> None:
        kept = self.session.unacknowledged
        if "drop unsent" in self.server.simulation.off and kept:
            kept.acknowledge(kept.messages + 1)

    def end(self, goodbye: Bye) -> None:
        """The handler ends."""
        self.ended = True
        self.session.handler_ended(goodbye)
        if "linger" in self.server.simulation.off and not self.session.attached:
            self.server.end(self, answered=True)
        else:
            self.wire.pump()


class Server:
    """A process with its tables of sessions."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.hosts: list[Host] = []
        self.sessions: Sessions[Host] = Sessions(1000)

    def admit(self, carrier: Carrier) -> None:
        """An offer arrives. The decision and the end of the older carrier are one step; hello follows the accept."""
        carrier.arrived = True
        offer = carrier.offer = negotiate(carrier.subprotocols)[1]
        assert offer is not None
        found = self.sessions.find(offer, self.simulation.now)
        if isinstance(found, Refusal) and found.why == "late" and "newest" in self.simulation.off:
            found = next(
                host for host in self.hosts if {host.session.name, host.session.begun_as} & {offer.session, offer.next}
            )
        if isinstance(found, Refusal):
            self.simulation.log(f"server refuses {carrier}: {found.why}")
            carrier.down.put("accepted")
            carrier.down.put("message", str(Bye(1008, found.why, found.again)))
            carrier.cut()
        elif found is None:
            self._begin(carrier, offer)
        else:
            carrier.outcome = Outcome.RESUMED if found.session.name == offer.session else Outcome.FRESH
            self._claim(carrier, found, offer)

    def _begin(self, carrier: Carrier, offer: Offer) -> None:
        host = Host(self, self.simulation.new_handler(), offer)
        host.client, host.carrier = carrier.client, carrier
        self.hosts.append(host)
        self.sessions.add(host)
        carrier.host, carrier.pending = host, True

    def _claim(self, carrier: Carrier, host: Host, offer: Offer) -> None:
        if offer.attempt < host.session.attempt:
            raise Violation(f"N: attempt {offer.attempt} took the session from attempt {host.session.attempt}")
        host.wire.detach_carrier()
        host.session.admit(offer.attempt)
        self.sessions.detach(host)
        older, host.carrier = host.carrier, carrier
        carrier.host, carrier.pending = host, True
        if older is not None and "generation" not in self.simulation.off:
            older.cut()

    def attach(self, carrier: Carrier) -> None:
        """The accept is through."""
        host, offer = carrier.host, carrier.offer
        assert host is not None
        assert offer is not None
        carrier.pending = False
        if host.carrier is not carrier or not carrier.server_open:
            carrier.cut()
            return
        carrier.down.put("accepted")
        off, session = self.simulation.off, host.session
        lost = 0 if "total" in off else session.lost
        hello = Hello(
            session.name, carrier.outcome, session.received, lost, 2000, 2000, 120_000, (ACK_EVERY, 10**6), None
        )
        received = offer.received if carrier.outcome is Outcome.RESUMED else 0
        host.wire.attach(carrier, received, hello)
        if session.skipped:
            carrier.write(Block(session.skipped))
            session.skipped = ()
        self.sessions.attached(host)

    def hear(self, carrier: Carrier, kind: str, value: str | bytes | int | None) -> None:
        """Something of a client arrives."""
        host = carrier.host
        if host is None or not carrier.server_open:
            return
        if host.carrier is not carrier and "generation" not in self.simulation.off:
            return
        if kind == "close":
            assert isinstance(value, int)
            self._closed(carrier, host, value)
        elif isinstance(value, str):
            self._message(host, value)

    def _message(self, host: Host, text: str) -> None:
        dropped = text.endswith("!")
        if dropped and "count first" in self.simulation.off:
            return
        event: Event = {"type": "websocket.receive", "text": text}
        heard = host.wire.hear(event, self.simulation.now)
        if heard is not None and host.ended:
            self.simulation.lost.add(heard["text"])
        elif heard is not None and not dropped:
            host.heard.append(heard["text"])
            self.simulation.heard.add(heard["text"])
            self.simulation.check_handler(host)
        if "answered" in self.simulation.off and host.ended and not (host.queue or host.session.unacknowledged):
            self.end(host, answered=True)

    def _closed(self, carrier: Carrier, host: Host, code: int) -> None:
        carrier.server_open = False
        if host.session.state is SessionState.OVER:
            return
        ending = host.session.closed(code, by_server=False)
        if ending is Ending.OVER or (code == 1005 and "no code" in self.simulation.off):
            carrier.down.put("closed", code)
            self.end(host, answered=True)
        elif host.carrier is carrier:
            host.wire.detach_carrier()
            self.sessions.detach(host)

    def lost(self, carrier: Carrier) -> None:
        """The server notices that a carrier is gone."""
        carrier.server_open = carrier.pending = False
        carrier.up.items.clear()
        if carrier.host is not None and carrier.host.carrier is carrier:
            carrier.host.wire.detach_carrier()
            self.sessions.detach(carrier.host)

    def end(self, host: Host, answered: bool) -> None:
        """A session is over."""
        self.sessions.remove(host, self.simulation.now, answered)
        if "finished" in self.simulation.off:
            self.sessions._finished.clear()
        host.session.end()
        host.wire.detach_carrier()
        if host in self.hosts:
            self.hosts.remove(host)
        if host.carrier is not None and host.carrier.server_open:
            host.carrier.cut()


class Client:
    """A client with its application.

    Attributes:
        everything: what the application has sent.
        got: what it got in this life.
        told: how many messages it was told are lost, in this life.
        number: of the handler that it talks to.
    """

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.name = name
        self.carriers: dict[int, Carrier] = {}
        self.everything: list[str] = []
        self.said = 0
        self.got: list[str] = []
        self.told = 0
        self.number: int | None = None
        self.over = self.closing = False
        self.machine = ClientMachine(
            simulation.new_name, simulation.chance.random, max_messages=WINDOW, min_delay=0.05, max_delay=0.5
        )
        # These servers speak the protocol; a client that does not know that would try in turn without it.
        self.machine._negotiation.spoken = True
        self._break_rules()

    def _break_rules(self) -> None:
        off, life = self.simulation.off, self.machine._life
        offer, begin = life.offer, life.begin
        if "no next" in off:
            life.offer = lambda attempt, closing: offer(attempt, False)  # type: ignore[method-assign]
        if "same next" in off:

            def offer_anew(attempt: int, closing: bool) -> Offer:
                life._next = self.simulation.new_name()
                return offer(attempt, closing)

            life.offer = offer_anew  # type: ignore[method-assign]
        if "reset" in off:

            def begin_without_reset(session: str | None) -> list[str | bytes]:
                received, sent = life.received, self.machine._outbox.sent
                kept = list(self.machine._outbox._unacknowledged)
                begin(session)
                life.received = received
                self.machine._outbox.sent = sent
                self.machine._outbox._unacknowledged.extend(kept)
                return []

            life.begin = begin_without_reset  # type: ignore[method-assign]

    @property
    def carrier(self) -> Carrier | None:
        """The newest."""
        return self.carriers.get(self.machine.attempt)

    def say(self) -> None:
        """The application sends; a message that ends in ``!`` is one that a rate limit on the server drops."""
        text = f"{self.simulation.odd()}{self.name}:{self.said + 1}" + (
            "!" if self.simulation.chance.random() < 0.15 else ""
        )
        if self.machine._outbox.fits(len(text)):
            self.said += 1
            self.everything.append(text)
            self.do(self.machine.send(text, self.simulation.now))

    def do(self, todo: list[actions.Action]) -> None:
        """Carry out what the machine asks for."""
        for action in todo:
            self._do(action)

    def _do(self, action: actions.Action) -> None:
        if isinstance(action, actions.Connect):
            carrier = self.carriers[action.attempt] = Carrier(self, action.attempt, action.subprotocols)
            self.simulation.carriers.append(carrier)
            if "before hello" in self.simulation.off:
                self.machine._send(self.machine._outbox.take())
        elif isinstance(action, actions.Send):
            if self.carriers[action.attempt].client_open:
                self.carriers[action.attempt].up.put("message", action.message)
        elif isinstance(action, actions.CloseCarrier):
            self._close(self.carriers[action.attempt], action.code)
        elif isinstance(action, actions.Closed):
            self.over = True
        elif isinstance(action, actions.Lost):
            self.simulation.lost.update(str(message) for message in action.messages)
        elif isinstance(action, actions.Opened):
            self._opened()
        elif isinstance(action, actions.Gap):
            self.told += action.lost
        elif isinstance(action, actions.Deliver):
            self.got.append(str(action.message))
            self.simulation.check_client(self)
        elif isinstance(action, actions.Plain):
            raise Violation(f"P: {self.name} is plain")

    def _opened(self) -> None:
        carrier = self.carrier
        assert carrier is not None
        assert carrier.host is not None
        if self.number is not None:
            self.simulation.lives_lost += 1
        self.number, self.got, self.told = carrier.host.number, [], 0

    def _close(self, carrier: Carrier, code: int | None) -> None:
        if not carrier.client_open:
            return
        carrier.up.put("close", 1005 if code is None else code)
        if self.machine.state is not ClientState.CLOSING or code is None:
            carrier.client_open = False
        elif "close answered" in self.simulation.off:
            carrier.client_open = False
            self.over = True

    def hear(self, carrier: Carrier, kind: str, value: str | bytes | int | None) -> None:
        """Something of the server arrives."""
        stale = "stale socket" in self.simulation.off
        if self.over or not (carrier.client_open or stale):
            return
        attempt = self.machine.attempt if stale else carrier.attempt
        now = self.simulation.now
        if kind == "accepted":
            self.do(self.machine.opened(attempt, "wsstab.v1", now))
        elif kind == "message":
            assert isinstance(value, str)
            self.do(self.machine.heard(attempt, value, now))
        elif carrier.client_open:
            carrier.client_open = False
            code = value if isinstance(value, int) else None
            self.do(self.machine.ended(carrier.attempt, code, "", code is not None, now))


@dataclass
class Simulation:
    """One schedule.

    Args:
        seed: the seed of everything that is left to chance.
        off: rules that are left out.
        count: how many clients there are.
        processes: how many servers there are, which know nothing of each other.
        tracing: whether to print what happens.
    """

    seed: int
    off: frozenset[str] = frozenset()
    count: int = 1
    processes: int = 1
    tracing: bool = False
    now: float = 1000.0
    handlers: int = 0
    forgotten: int = 0
    again: int = 0
    lives_lost: int = 0
    healed: bool = False
    carriers: list[Carrier] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.policy = self.chance.choice(["drop_oldest", "drop_newest", "block"])
        self.servers = [Server(self) for _ in range(self.processes)]
        self.clients = [Client(self, chr(97 + number)) for number in range(self.count)]

    def log(self, line: str) -> None:
        """Print a line, if asked to."""
        if self.tracing:
            print(line)

    def new_handler(self) -> int:
        """Another handler runs."""
        self.handlers += 1
        return self.handlers

    def new_name(self) -> str:
        """A name of 22 characters of base64url."""
        return f"{self.chance.getrandbits(64):022d}"

    def odd(self) -> str:
        """Now and then the escape, with which a text of an application may begin."""
        return "\x1e" if self.chance.random() < 0.1 else ""

    @property
    def hosts(self) -> list[Host]:
        """The sessions of all servers."""
        return [host for server in self.servers for host in server.hosts]

    # What is promised.

    def check_handler(self, host: Host) -> None:
        """S."""
        texts = [text.lstrip("\x1e") for text in host.heard]
        client = next(each for each in self.clients if each.name == texts[-1].split(":")[0])
        numbers = [int(text.split(":")[1].rstrip("!")) for text in texts]
        for before, after in itertools.pairwise(numbers):
            if after <= before:
                raise Violation(f"S: handler {host.number} got {texts[-4:]}")
        if len(numbers) > 1:
            for text in client.everything[numbers[-2] : numbers[-1] - 1]:
                if not text.endswith("!") and text not in self.lost:
                    raise Violation(f"S: handler {host.number} missed {text!r}")

    def check_client(self, client: Client) -> None:
        """C."""
        texts = [text.lstrip("\x1e") for text in client.got]
        if client.number is None or not texts[-1].startswith(f"{client.number}:"):
            raise Violation(f"C: {client.name} is with handler {client.number} and got {texts[-4:]}")
        numbers = [0] + [int(text.split(":")[1]) for text in texts]
        if numbers[-1] <= numbers[-2]:
            raise Violation(f"C: {client.name} got {texts[-4:]}")
        if numbers[-1] - len(texts) > client.told:
            raise Violation(f"C: {client.name} missed {numbers[-1] - len(texts)}, and was told of {client.told}")

    def check_bounds(self) -> None:
        """B."""
        kept = [host.handed.messages - host.session.unacknowledged.messages for host in self.hosts]
        if max(kept, default=0) > WINDOW or any(client.machine.kept > WINDOW for client in self.clients):
            raise Violation(f"B: {kept} kept")

    # One step.

    def step(self) -> None:
        """Something happens."""
        chance, client = self.chance, self.chance.choice(self.clients)
        self.now += TICK
        self.tick(client)
        draw = chance.random()
        if draw < 0.45:
            busy = [carrier for carrier in self.carriers if carrier.busy]
            if busy:
                # Mostly the newest: what an older one still has on its way comes late.
                self.move(chance.choice(busy[-2:] if chance.random() < 0.7 else busy))
        elif draw < 0.58:
            if not client.over and not client.closing:
                client.say()
        elif draw < 0.72:
            if self.hosts and not (host := chance.choice(self.hosts)).ended:
                host.say()
        elif draw < 0.80:
            # Now and then while the old one still looks open: the network was switched.
            if not client.over and (client.machine.state is ClientState.DETACHED or chance.random() < 0.25):
                client.do(client.machine.connect(self.now))
        elif draw < 0.81:
            if self.hosts:
                chance.choice(self.hosts).wire.ping(b"ping")
        elif draw < 0.97:
            if self.carriers:
                self.hurt(chance.choice(self.carriers[-3:]))
        else:
            self._rarely(draw, client)
        self.check_bounds()

    def _rarely(self, draw: float, client: Client) -> None:
        chance = self.chance
        if draw < 0.973:
            if chance.random() < 0.5 and not client.over:
                client.closing = True
                client.do(client.machine.close(self.now))
        elif draw < 0.985:
            if self.hosts and chance.random() < 0.25:
                self._end_handler(chance.choice(self.hosts))
        elif chance.random() < 0.2:
            if chance.random() < 0.5:
                self.restart()
            else:
                self.forget([host for host in self.hosts if not host.session.attached])

    def _end_handler(self, host: Host) -> None:
        if host.ended:
            return
        failed = self.chance.random() < 0.3
        self.log(f"handler {host.number} {'raises' if failed else 'returns'}")
        self.again += failed
        host.end(Bye(1011, "internal error", "new") if failed else Bye(1000))

    def tick(self, client: Client) -> None:
        """Time passes for a client."""
        deadline = client.machine.deadline
        if not client.over and deadline is not None and deadline <= self.now:
            client.do(client.machine.tick(self.now))

    def move(self, carrier: Carrier) -> None:
        """One thing happens on this carrier."""
        can = [] if carrier.arrived else ["offer"]
        if carrier.arrived:
            can += ["accept"] * carrier.pending + ["up"] * bool(carrier.up.items)
        can += ["down"] * bool(carrier.down.items)
        what = self.chance.choice(can)
        if what == "offer" and carrier is not carrier.client.carrier and not self.healed and self.chance.random() < 0.8:
            # The handshake of an attempt that was given up comes late, often after the end of its session.
            return
        if self.tracing:
            items = (carrier.up if what == "up" else carrier.down).items
            self.log(f"{what} of {carrier}: {items[0] if what in ('up', 'down') else carrier.subprotocols}")
        if what == "offer":
            if carrier.up.silent or not carrier.server_open:
                carrier.arrived = True
            else:
                carrier.server.admit(carrier)
        elif what == "accept":
            carrier.server.attach(carrier)
        elif what == "up":
            carrier.server.hear(carrier, *carrier.up.items.popleft())
        else:
            carrier.client.hear(carrier, *carrier.down.items.popleft())

    def hurt(self, carrier: Carrier) -> None:
        """The network does something to a carrier."""
        how = self.chance.choice(("reset", "reset", "prefix", "half", "silent", "server sees", "client sees"))
        self.log(f"network: {how} on {carrier}")
        if how == "prefix":
            # What is on its way arrives in part.
            for link in (carrier.up, carrier.down):
                for _ in range(self.chance.randrange(len(link.items) + 1)):
                    link.items.pop()
                link.silent = True
        elif how == "half":
            self.chance.choice((carrier.up, carrier.down)).silent = True
        elif how in ("reset", "silent"):
            if how == "reset":
                carrier.up.items.clear()
                carrier.down.items.clear()
            carrier.up.silent = carrier.down.silent = True
        if how in ("reset", "server sees") and carrier.arrived and carrier.server_open:
            carrier.server.lost(carrier)
        if how in ("reset", "client sees") and carrier.client_open:
            carrier.down.items.clear()
            carrier.up.silent = True
            carrier.client.hear(carrier, "eof", None)

    def restart(self) -> None:
        """The servers are started again: they remember nothing, and no handshake survives that."""
        self.forget(self.hosts)
        for server in self.servers:
            server.sessions._finished.clear()
        for carrier in self.carriers:
            if not carrier.arrived:
                carrier.arrived, carrier.server_open = True, False

    def forget(self, hosts: list[Host]) -> None:
        """Their window has ended."""
        for host in hosts:
            self.log(f"handler {host.number} is forgotten")
            host.server.end(host, answered=False)
            self.forgotten += 1

    # The end.

    def heal(self) -> None:
        """Nothing hurts any more: everybody comes back, and says how much it has."""
        self.log("the network is whole")
        self.healed = True
        for _ in range(60):
            self._come_back()
            for _ in range(400):
                busy = [carrier for carrier in self.carriers if carrier.busy]
                if not busy:
                    break
                self.move(self.chance.choice(busy))
            if all(map(self.is_quiet, self.clients)):
                break
            for client in self.clients:
                if client.machine.state is ClientState.ATTACHED:
                    client.do(client.machine.wake(self.now))
            for host in self.hosts:
                host.wire.ping(b"ping")
            self.now += 1.0
            for client in self.clients:
                self.tick(client)
        for client in self.clients:
            self.check_quiet(client)
        if self.processes == 1:
            most = self.count + self.forgotten + self.again
            if self.handlers > most:
                raise Violation(f"H: {self.handlers} handlers where at most {most} are to be")
            if self.lives_lost > self.forgotten + self.again:
                raise Violation(f"L: {self.lives_lost} lives were lost, {self.forgotten} sessions forgotten")

    def _come_back(self) -> None:
        for client in self.clients:
            carrier = client.carrier
            if not client.over and (carrier is None or not carrier.whole):
                client.do(client.machine.connect(self.now))

    def is_quiet(self, client: Client) -> bool:
        """Whether nothing more is to come."""
        try:
            self.check_quiet(client)
        except Violation:
            return False
        return True

    def check_quiet(self, client: Client) -> None:
        """Q."""
        if client.over:
            missing = [text for text in client.everything if text[-1] != "!" and text not in self.heard | self.lost]
            if missing:
                raise Violation(f"Q: {client.name} is over, and {missing[:3]} never arrived")
            return
        carrier = client.carrier
        host = carrier.host if carrier is not None else None
        if client.machine.state is not ClientState.ATTACHED or host is None or host not in self.hosts:
            raise Violation(f"Q: {client.name} never came back")
        if client.closing:
            raise Violation(f"Q: {client.name} never closed")
        if client.machine.kept or host.queue or host.session.unacknowledged:
            raise Violation(f"Q: left over {client.machine!r} {host.queue!r} {host.session!r}")
        if host.session.received != client.machine._outbox.sent or client.machine.received != host.handed.messages:
            raise Violation(f"Q: the counters part: {client.machine!r} {host.session!r}")

    def run(self) -> None:
        """Run the schedule.

        Raises:
            Violation: a promise was broken.
        """
        for client in self.clients:
            client.do(client.machine.connect(self.now))
        for _ in range(STEPS):
            self.step()
        self.heal()


def simulation(seed: int, off: Iterable[str] = (), tracing: bool = False) -> Simulation:
    """The schedule of a seed."""
    processes = 2 if seed % 5 == 4 else 1
    return Simulation(seed, frozenset(off), count=1 + seed % 2, processes=processes, tracing=tracing)


def first_violation(first: int, count: int, off: Iterable[str] = ()) -> tuple[int, str] | None:
    """The first seed that finds a violation, and which."""
    for seed in range(first, first + count):
        try:
            simulation(seed, off).run()
        except Violation as violation:
            return seed, str(violation)
    return None
