"""Runs the benchmarks: every system in turn, in one run, again and again.

    python -m benchmarks [SCENARIO ...] [--systems NAME,NAME] [--turns 5] [--json FILE] [--svg FILE]
    python -m benchmarks.publish

Each system is a process of its own on one core, the load is this process on another. A turn runs
them all once, one after the other (or, where a difference of a hundredth counts, in short slices by
turns); the medians of all turns are printed. A line reports a peer that is left out because it is not
installed, and a client that is a bottleneck because it is busy for over 90 % of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

from .picture import picture
from .plan import EVERY_DAY, SCENARIOS, Scenario
from .publish import read
from .report import Result, table
from .systems import SYSTEMS, System, versions
from .targets import judged

LOAD_CORE = 1
BUSY = 0.9


def run(scenario: Scenario, systems: list[System], turns: int) -> list[Result]:
    """Measure all systems in turn."""
    runs: dict[str, list[Mapping[str, float]]] = {system.name: [] for system in systems}
    for turn in range(turns):
        for system, measured in scenario.turn(systems):
            if isinstance(measured, Exception):
                print(f"! {system.name}, turn {turn + 1}: {measured}", file=sys.stderr)
                continue
            if measured.get("client busy", 0.0) > BUSY:
                print(f"! {system.name}: the client is the bottleneck", file=sys.stderr)
            runs[system.name].append(measured)
    return [Result(scenario.title, name, each) for name, each in runs.items() if each]


def chosen(scenario: Scenario, names: list[str]) -> list[System]:
    """The systems that take part and are installed."""
    part = [system for system in SYSTEMS if scenario.needs in system.what and (not names or system.name in names)]
    for system in part:
        if missing := system.missing():
            print(f"- {system.name} is left out: {', '.join(missing)} is not there", file=sys.stderr)
    return [system for system in part if not system.missing()]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join([*SCENARIOS, "all"]))
    parser.add_argument("--systems", default="", help="names, with commas between them; all by default")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    asked = options.scenarios or list(EVERY_DAY)
    if unknown := set(asked) - {*SCENARIOS, "all"}:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    prepare()
    results: list[Result] = []
    for name in SCENARIOS if "all" in asked else asked:
        scenario = SCENARIOS[name]
        measured = run(scenario, chosen(scenario, [each for each in options.systems.split(",") if each]), options.turns)
        if measured:
            print(table(measured), end="\n\n", flush=True)
            results += measured
    print(judged(results), end="")
    if options.json:
        write(options.json, results)
    if options.svg:
        options.svg.write_text(picture(results))


def write(path: Path, results: list[Result]) -> None:
    """Write these results; the results of other scenarios in the file stay."""
    measured = {each.scenario for each in results}
    kept = [each for each in read(path)[1] if each.scenario not in measured]
    facts = {"versions": versions(), "machine": f"{os.cpu_count()} cores, {platform.machine()}"}
    lines = [json.dumps(each.as_json()) for each in [*kept, *results]]
    head = json.dumps(facts, indent=1).removesuffix("\n}")
    path.write_text(head + ',\n "results": [\n' + ",\n".join(lines) + "\n]}\n")


def prepare() -> None:
    """Give the load a core of its own, and as many descriptors as are allowed."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {LOAD_CORE})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
