"""Benchmarks: each scenario runs, small, against a real server, and measures what it says."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import chosen, main, run, write
from benchmarks.load import Frames, Swarm, TimedOut, frame_size, masked
from benchmarks.member import Members
from benchmarks.picture import picture
from benchmarks.plan import SCENARIOS, Scenario
from benchmarks.publish import read, section
from benchmarks.report import Result, number, table
from benchmarks.systems import SYSTEMS, System
from benchmarks.targets import TARGETS, Target, judged
from tests.support.frames import TEXT
from wsstab.core.frames import frame_header

OURS = next(system for system in SYSTEMS if system.name == "wsstab")
BARE = next(system for system in SYSTEMS if system.name == "Starlette loop")
LIMITS = [system for system in SYSTEMS if system.name in ("limit: write each", "limit: joined")]
SMALL: dict[str, dict[str, Any]] = {
    "single": {"clients": 10},
    "burst": {"clients": 10, "burst": 5},
    "deflate-1k": {"clients": 10, "burst": 3},
    "rooms": {"clients": 80, "rooms": 40},
    "growth": {"clients": 60},
    "echo": {"clients": 3, "seconds": 0.3},
    "sends": {"messages": 500},
    "handshakes": {"connections": 200},
    "memory": {"clients": 200},
    "memory-deflate": {"clients": 200},
    "heartbeat": {"clients": 20, "interval": 1.5, "seconds": 1.0},
    "stalls": {"clients": 20},
    "stalled": {"clients": 20, "stalled": 2},
    "shutdown": {"clients": 50},
    "http": {"slices": 2, "rounds": 20},
}


@pytest.mark.parametrize("name", SMALL)
def test_every_figure_of_a_scenario_is_above_zero(name: str) -> None:
    """Exceptions are figures that may truly be zero, such as stalls."""
    ((_, measured),) = replace(SCENARIOS[name], size=SMALL[name]).turn([OURS])
    may_be_zero = {"left bytes", "stall ms", "client busy", "CPU %", "CPU µs each"}
    assert not isinstance(measured, Exception)
    assert all(value > 0 for metric, value in measured.items() if metric not in may_be_zero), measured


@pytest.mark.parametrize("system", [OURS, BARE, *LIMITS], ids=lambda system: system.name)
def test_every_client_gets_every_byte(system: System) -> None:
    """A byte more than the client waits for is an error."""
    with system.running() as running, Members(running, 5) as members:
        arrival = members.broadcast(3, 200)
        assert len(arrival.times) == 5
        assert arrival.times[-1] <= arrival.seconds
        with pytest.raises(ConnectionError, match="bytes too many"):
            members.swarm.gather(lambda: members.say("broadcast 1 200"), dict.fromkeys(members.clients, 100))


def test_waiting_for_a_message_that_never_arrives_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark run never hangs."""
    monkeypatch.setattr("benchmarks.load.PATIENCE", 0.2)
    with OURS.running() as running, Members(running, 2) as members, pytest.raises(TimedOut):
        members.swarm.gather(lambda: None, dict.fromkeys(members.clients, 1))


def test_a_refused_handshake_is_an_error() -> None:
    """Otherwise it would be measured as a fast handshake."""
    with OURS.running() as running, Swarm(running.port) as swarm, pytest.raises(ConnectionError, match="403"):
        swarm.connect("/nowhere", 1)


@pytest.mark.parametrize(("size", "frame"), [(0, 2), (125, 127), (126, 130), (65535, 65539), (65536, 65546)])
def test_frame_sizes_are_those_of_rfc_6455(size: int, frame: int) -> None:
    """The frame of a client has four bytes more, for its mask."""
    assert frame_size(size) == frame
    assert len(masked(b"x" * size)) == frame + 4
    assert masked(b"x" * size)[0] == 0x80 | TEXT


@pytest.mark.parametrize("step", [1, 3, 1000, 1_000_000])
def test_frames_are_counted_wherever_the_stream_is_split(step: int) -> None:
    """With each of the three encodings of the length; one frame too many is an error."""
    sizes = [0, 125, 126, 65_535, 65_536]
    stream = b"".join(frame_header(TEXT, size) + b"x" * size for size in sizes)
    frames = Frames(len(sizes))
    parts = [memoryview(stream)[start : start + step] for start in range(0, len(stream), step)]
    assert [frames.take(part) for part in parts] == [False] * (len(parts) - 1) + [True]
    with pytest.raises(ConnectionError, match="1 frames too many"):
        frames.take(memoryview(frame_header(TEXT, 0)))


CLOSE = b"\x88\x02\x03\xf4"
PING = b"\x89\x00"
LIKE_A_CLOSE = b"\x82\x04" + CLOSE
"""A message whose payload looks like a close frame."""


def greet(listener: socket.socket, count: int, greeted: list[socket.socket]) -> None:
    """Accept this many WebSockets, and complete their handshakes."""
    for _ in range(count):
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        greeted.append(connection)


@pytest.mark.parametrize("at_once", [1, 2, 5, 1000])
def test_each_client_that_got_a_close_frame_is_counted_once(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """The frame may be behind others and arrive in parts. The end of TCP alone, or a message, is no close frame."""
    monkeypatch.setattr("benchmarks.load.BUFFER", at_once)
    streams = [CLOSE, PING + CLOSE, CLOSE + CLOSE, LIKE_A_CLOSE + CLOSE, b"", PING, LIKE_A_CLOSE, CLOSE[:3]]
    servers: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, Swarm(listener.getsockname()[1]) as swarm:
        greeter = threading.Thread(target=greet, args=(listener, len(streams), servers))
        greeter.start()
        clients = swarm.connect("/", len(streams))
        greeter.join()
        for server, stream in zip(servers, streams, strict=True):
            server.sendall(stream)
            server.shutdown(socket.SHUT_WR)
        seconds, closes = swarm.endings(clients, 10.0)
        assert (closes, seconds < 5.0) == (4, True)
        assert servers[0].recv(100) == masked(CLOSE[2:], 0x8)
    for server in servers:
        server.close()


def test_small_messages_are_sent_as_they_are_and_large_ones_compressed() -> None:
    """The number of bytes on the wire shows it."""
    with OURS.running(COMPRESSION="deflate") as running, Members(running, 5, deflate=True) as members:
        assert members.broadcast_json(2, 128).received == 5 * 2 * 132
        assert members.broadcast_json(1, 16_384).received < 5 * 16_384 / 2


def results_of(scenario: str, **values: float) -> list[Result]:
    """One result for each system: this value, in this scenario."""
    title = SCENARIOS[scenario].title
    return [Result(title, system, [{"deliveries/s": value}]) for system, value in values.items()]


def test_each_measured_target_is_reported_as_reached_or_missed() -> None:
    """Targets of scenarios that were not measured are left out."""
    lines = judged(results_of("single", wsstab=90.0, picows=100.0, websockets=80.0)).splitlines()
    assert [line.split()[:3] for line in lines] == [["reached", "0.90", "≥"], ["MISSED", "1.12", "≥"]]


def test_every_target_names_a_scenario_and_systems_that_exist() -> None:
    """A target that could never be measured would go unnoticed."""
    names = {system.name for system in SYSTEMS}
    for target in TARGETS:
        assert target.scenario in SCENARIOS
        assert {target.ours, target.against or target.ours} <= names, target.text


def test_a_target_may_be_a_difference_and_have_an_upper_bound() -> None:
    """The targets for memory are of this kind."""
    target = Target("single", "deliveries/s", most=2.0, against="bare", difference=True)
    value = target.value(results_of("single", wsstab=26.5, bare=25.0))
    assert value == 1.5
    assert target.reached(1.5)
    assert not target.reached(2.5)
    assert target.value(results_of("single", bare=25.0)) is None


def test_writing_results_keeps_those_of_other_scenarios(tmp_path: Path) -> None:
    """One scenario can be measured again by itself."""
    path = tmp_path / "results.json"
    write(path, [*results_of("single", wsstab=1.0), *results_of("burst", wsstab=2.0)])
    write(path, results_of("single", wsstab=3.0))
    facts, found = read(path)
    assert {(each.scenario, each.median("deliveries/s")) for each in found} == {
        (SCENARIOS["burst"].title, 2.0),
        (SCENARIOS["single"].title, 3.0),
    }
    assert facts["versions"]["python"]


def test_the_readme_section_shows_the_results_and_the_targets() -> None:
    """Each system is a row, and each target that was measured has its value."""
    facts = {"machine": "2 cores", "versions": {"python": "3.13"}}
    text = section(facts, [*results_of("single", wsstab=95_000.0, picows=100_000.0)])
    assert "| wsstab |  | 95.0 (95.0–95.0) |  |" in text
    assert "| ≥ 0.9 | 0.95 | ✓ |" in text


def result(system: str, *values: float) -> Result:
    """A result with one run for each value."""
    return Result("a title", system, [{"things/s": value, "p99 ms": 1.0} for value in values])


def test_the_table_shows_medians_ranges_and_ratios() -> None:
    """The ratios are relative to wsstab."""
    text = table([result("wsstab", 100, 200, 300), result("other", 50)])
    ours, other = text.splitlines()[2:]
    assert "200 (100–300)" in ours
    assert ours.endswith("1.00")
    assert other.endswith("0.25")


def test_the_picture_is_an_svg_with_a_bar_for_each_system() -> None:
    """Each system is named, and its name is escaped; the third rectangle is the background."""
    root = ElementTree.fromstring(picture([result("wsstab", 100), result("a < b", 50)]))
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) == 3
    assert "a < b" in "".join(root.itertext())


@pytest.mark.parametrize(("value", "text"), [(1234567.0, "1,234,567"), (12.34, "12.3"), (0.1234, "0.12")])
def test_larger_numbers_are_shown_with_fewer_decimals(value: float, text: str) -> None:
    """Two decimals below 10, one below 100, none above."""
    assert number(value) == text


def scenario(measure: Callable[..., Mapping[str, float]]) -> Scenario:
    """A scenario that calls this function."""
    return Scenario("a title", measure)


def test_systems_take_turns_and_a_failing_one_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """The order is A, B, A, B, and the other systems go on after a failure."""
    order = list[str]()

    def measure(system: System) -> Mapping[str, float]:
        order.append(system.name)
        if system is BARE:
            raise RuntimeError("broken")
        return {"things/s": 1.0, "client busy": 0.95}

    results = run(scenario(measure), [OURS, BARE], 2)
    assert order == ["wsstab", "Starlette loop"] * 2
    assert [each.system for each in results] == ["wsstab"]
    told = capsys.readouterr().err
    assert "broken" in told
    assert "wsstab: the client is the bottleneck" in told


def test_systems_can_be_measured_together(capsys: pytest.CaptureFixture[str]) -> None:
    """If the measurement fails, it fails for all of them."""

    def measure(systems: Sequence[System], *, broken: bool) -> Mapping[str, Mapping[str, float]]:
        if broken:
            raise RuntimeError("broken")
        return {system.name: {"things/s": float(place)} for place, system in enumerate(systems)}

    together = Scenario("a title", measure, {"broken": False}, together=True)
    assert [(each.system, each.runs) for each in run(together, [OURS, BARE], 2)] == [
        ("wsstab", [{"things/s": 0.0}] * 2),
        ("Starlette loop", [{"things/s": 1.0}] * 2),
    ]
    assert run(replace(together, size={"broken": True}), [OURS, BARE], 1) == []
    assert capsys.readouterr().err == "! wsstab, turn 1: broken\n! Starlette loop, turn 1: broken\n"


def test_a_system_that_is_not_installed_is_left_out_with_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is not an error."""
    stranger = System("stranger", ("nothing",), needs=("a_module_that_is_not_there", "node_modules/nothing"))
    monkeypatch.setattr("benchmarks.__main__.SYSTEMS", [OURS, stranger])
    assert chosen(SCENARIOS["single"], []) == [OURS]
    assert "stranger is left out" in capsys.readouterr().err


def test_an_unknown_scenario_is_refused_with_a_list_of_the_known_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal comes before any server is started."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", "sinlge"])
    with pytest.raises(SystemExit):
        main()
    assert "single" in capsys.readouterr().err


@pytest.mark.parametrize("system", [each for each in SYSTEMS if "beneath" in each.name], ids=lambda system: system.name)
def test_a_system_beneath_middleware_or_instrumentation_can_be_measured(system: System) -> None:
    """Each of them runs, and answers the commands of the benchmark."""
    ((_, measured),) = replace(SCENARIOS["sends"], size=SMALL["sends"]).turn([system])
    assert not isinstance(measured, Exception)
    assert measured["sends/s"] > 0
