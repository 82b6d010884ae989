"""The benchmarks measure what they say: each scenario, small, on the real thing."""

from __future__ import annotations

import sys
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
def test_a_scenario_gives_figures(name: str) -> None:
    """Every one of them is a number above zero, but for what may well be nothing."""
    ((_, measured),) = replace(SCENARIOS[name], size=SMALL[name]).turn([OURS])
    may_be_zero = {"left bytes", "stall ms", "client busy", "CPU %", "CPU µs each"}
    assert not isinstance(measured, Exception)
    assert all(value > 0 for metric, value in measured.items() if metric not in may_be_zero), measured


@pytest.mark.parametrize("system", [OURS, BARE, *LIMITS], ids=lambda system: system.name)
def test_every_client_gets_every_byte(system: System) -> None:
    """A byte too many or too few is noticed."""
    with system.running() as running, Members(running, 5) as members:
        arrival = members.broadcast(3, 200)
        assert len(arrival.times) == 5
        assert arrival.times[-1] <= arrival.seconds
        with pytest.raises(ConnectionError, match="bytes too many"):
            members.swarm.gather(lambda: members.say("broadcast 1 200"), dict.fromkeys(members.clients, 100))


def test_what_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that hangs is given up."""
    monkeypatch.setattr("benchmarks.load.PATIENCE", 0.2)
    with OURS.running() as running, Members(running, 2) as members, pytest.raises(TimedOut):
        members.swarm.gather(lambda: None, dict.fromkeys(members.clients, 1))


def test_a_refused_handshake_is_an_error() -> None:
    """It is not measured as a fast one."""
    with OURS.running() as running, Swarm(running.port) as swarm, pytest.raises(ConnectionError, match="403"):
        swarm.connect("/nowhere", 1)


@pytest.mark.parametrize(("size", "frame"), [(0, 2), (125, 127), (126, 130), (65535, 65539), (65536, 65546)])
def test_frames_are_as_long_as_rfc_6455_says(size: int, frame: int) -> None:
    """A client's frame has a mask of four bytes more."""
    assert frame_size(size) == frame
    assert len(masked(b"x" * size)) == frame + 4
    assert masked(b"x" * size)[0] == 0x80 | TEXT


@pytest.mark.parametrize("step", [1, 3, 1000, 1_000_000])
def test_frames_are_counted_wherever_they_are_cut(step: int) -> None:
    """Of all three kinds of length; one too many is noticed."""
    sizes = [0, 125, 126, 65_535, 65_536]
    stream = b"".join(frame_header(TEXT, size) + b"x" * size for size in sizes)
    frames = Frames(len(sizes))
    parts = [memoryview(stream)[start : start + step] for start in range(0, len(stream), step)]
    assert [frames.take(part) for part in parts] == [False] * (len(parts) - 1) + [True]
    with pytest.raises(ConnectionError, match="1 frames too many"):
        frames.take(memoryview(frame_header(TEXT, 0)))


def test_a_small_message_goes_as_it_is_and_a_large_one_compressed() -> None:
    """The bytes on the wire tell."""
    with OURS.running(COMPRESSION="deflate") as running, Members(running, 5, deflate=True) as members:
        assert members.broadcast_json(2, 128).received == 5 * 2 * 132
        assert members.broadcast_json(1, 16_384).received < 5 * 16_384 / 2


def results_of(scenario: str, **values: float) -> list[Result]:
    """So much for each system."""
    title = SCENARIOS[scenario].title
    return [Result(title, system, [{"deliveries/s": value}]) for system, value in values.items()]


def test_targets_say_what_was_reached_and_what_was_not() -> None:
    """Of what was measured; nothing is said of the rest."""
    lines = judged(results_of("single", wsstab=90.0, picows=100.0, websockets=80.0)).splitlines()
    assert [line.split()[:3] for line in lines] == [["reached", "0.90", "≥"], ["MISSED", "1.12", "≥"]]


def test_every_target_can_be_told() -> None:
    """Its scenario measures its metric on systems that there are."""
    names = {system.name for system in SYSTEMS}
    for target in TARGETS:
        assert target.scenario in SCENARIOS
        assert {target.ours, target.against or target.ours} <= names, target.text


def test_a_target_may_be_a_difference_and_have_an_upper_bound() -> None:
    """As for memory."""
    target = Target("single", "deliveries/s", most=2.0, against="bare", difference=True)
    value = target.value(results_of("single", wsstab=26.5, bare=25.0))
    assert value == 1.5
    assert target.reached(1.5)
    assert not target.reached(2.5)
    assert target.value(results_of("single", bare=25.0)) is None


def test_results_of_other_scenarios_stay_in_the_file(tmp_path: Path) -> None:
    """One may be measured anew by itself."""
    path = tmp_path / "results.json"
    write(path, [*results_of("single", wsstab=1.0), *results_of("burst", wsstab=2.0)])
    write(path, results_of("single", wsstab=3.0))
    facts, found = read(path)
    assert {(each.scenario, each.median("deliveries/s")) for each in found} == {
        (SCENARIOS["burst"].title, 2.0),
        (SCENARIOS["single"].title, 3.0),
    }
    assert facts["versions"]["python"]


def test_the_readme_shows_what_was_measured() -> None:
    """Systems by columns, and each target that can be told."""
    facts = {"machine": "2 cores", "versions": {"python": "3.13"}}
    text = section(facts, [*results_of("single", wsstab=95_000.0, picows=100_000.0)])
    assert "| wsstab |  | 95.0 (95.0–95.0) |  |" in text
    assert "| ≥ 0.9 | 0.95 | ✓ |" in text


def result(system: str, *values: float) -> Result:
    """So many runs."""
    return Result("a title", system, [{"things/s": value, "p99 ms": 1.0} for value in values])


def test_the_table_has_medians_what_they_vary_between_and_ratios() -> None:
    """The ratio is to ours."""
    text = table([result("wsstab", 100, 200, 300), result("other", 50)])
    ours, other = text.splitlines()[2:]
    assert "200 (100–300)" in ours
    assert ours.endswith("1.00")
    assert other.endswith("0.25")


def test_the_picture_is_an_svg_with_a_bar_for_each() -> None:
    """And with the names."""
    root = ElementTree.fromstring(picture([result("wsstab", 100), result("a < b", 50)]))
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) == 3
    assert "a < b" in "".join(root.itertext())


@pytest.mark.parametrize(("value", "text"), [(1234567.0, "1,234,567"), (12.34, "12.3"), (0.1234, "0.12")])
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    """Not more."""
    assert number(value) == text


def scenario(measure: Callable[..., Mapping[str, float]]) -> Scenario:
    """Of one kind."""
    return Scenario("a title", measure)


def test_systems_take_turns_and_one_that_fails_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    """A B, A B; the others go on."""
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


def test_systems_may_be_measured_together(capsys: pytest.CaptureFixture[str]) -> None:
    """And fail together."""

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


def test_a_peer_that_is_not_installed_is_left_out_with_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no error."""
    stranger = System("stranger", ("nothing",), needs=("a_module_that_is_not_there", "node_modules/nothing"))
    monkeypatch.setattr("benchmarks.__main__.SYSTEMS", [OURS, stranger])
    assert chosen(SCENARIOS["single"], []) == [OURS]
    assert "stranger is left out" in capsys.readouterr().err


def test_a_scenario_that_is_not_there_is_refused_with_those_that_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", "sinlge"])
    with pytest.raises(SystemExit):
        main()
    assert "single" in capsys.readouterr().err


@pytest.mark.parametrize("system", [each for each in SYSTEMS if "beneath" in each.name], ids=lambda system: system.name)
def test_what_stands_around_a_system_changes_nothing_of_what_it_says(system: System) -> None:
    """Each of them runs, and says what it is asked to."""
    ((_, measured),) = replace(SCENARIOS["sends"], size=SMALL["sends"]).turn([system])
    assert not isinstance(measured, Exception)
    assert measured["sends/s"] > 0
