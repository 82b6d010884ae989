"""Runs the fuzzing client: ``python -m tests.autobahn --wstest PATH [--cases 1.* 2.*] [--ways bare middleware]``.

The client is a program for Python 2.7 (``pip install autobahntestsuite`` there), which is why this is
not part of the test suite. Each way to serve is fuzzed in turn; a case that behaves worse behind the
middleware than on the bare server is printed, and makes the run fail.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

APP = "tests.autobahn.app"
UVICORN = (sys.executable, "-m", "uvicorn", "--log-level", "critical", "--port", "{port}", "--loop", "uvloop")
WAYS: dict[str, tuple[str, ...]] = {
    "bare": (*UVICORN, f"{APP}:bare"),
    "middleware": (*UVICORN, f"{APP}:stabilized"),
    "protocol class": (*UVICORN, "--ws", "wsstab.wires.uvicorn:Protocol", f"{APP}:stabilized"),
    "wsproto, bare": (*UVICORN, "--ws", "wsproto", f"{APP}:bare"),
    "wsproto, middleware": (*UVICORN, "--ws", "wsproto", f"{APP}:stabilized"),
    "hypercorn, bare": (sys.executable, "-m", "hypercorn", "-k", "uvloop", "-b", "127.0.0.1:{port}", f"{APP}:bare"),
    "hypercorn, middleware": (
        *(sys.executable, "-m", "hypercorn", "-k", "uvloop", "-b", "127.0.0.1:{port}", f"{APP}:stabilized"),
    ),
}
COMPARED = {
    "middleware": "bare",
    "protocol class": "bare",
    "wsproto, middleware": "wsproto, bare",
    "hypercorn, middleware": "hypercorn, bare",
}
RANK = {"OK": 0, "INFORMATIONAL": 1, "NON-STRICT": 1, "UNIMPLEMENTED": 2, "UNCLEAN": 2, "FAILED": 3}
WORST = 3
SLOW = ("9.*", "12.*", "13.*")
"""Cases that take long: large messages and compression."""

Verdicts = dict[str, tuple[str, str]]


def fuzz(wstest: str, command: tuple[str, ...], cases: list[str], excluded: list[str]) -> Verdicts:
    """The behaviour of each case, and its behaviour at the close."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([part.format(port=port) for part in command], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        with tempfile.TemporaryDirectory() as folder:
            specification = {
                "outdir": folder,
                "servers": [{"url": f"ws://127.0.0.1:{port}"}],
                "cases": cases,
                "exclude-cases": excluded,
                "exclude-agent-cases": {},
            }
            file = Path(folder) / "specification.json"
            file.write_text(json.dumps(specification))
            subprocess.run([wstest, "-m", "fuzzingclient", "-s", str(file)], check=True, stdout=subprocess.DEVNULL)
            (report,) = json.loads((Path(folder) / "index.json").read_text()).values()
    finally:
        server.terminate()
        server.wait()
    return {case: (verdict["behavior"], verdict["behaviorClose"]) for case, verdict in report.items()}


def wait_for(port: int, within: float = 20.0) -> None:
    """Wait until the server listens."""
    until = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def best(rounds: list[Verdicts]) -> Verdicts:
    """The best verdict of each case: some cases depend on what arrives in one segment, and so on timing."""
    return {case: min((each[case] for each in rounds), key=rank) for case in rounds[0]}


def rank(verdict: tuple[str, str]) -> tuple[int, int]:
    """How bad a verdict is, as numbers that compare."""
    behaviour, close = verdict
    return RANK.get(behaviour, WORST), RANK.get(close, WORST)


def worse(ours: Verdicts, theirs: Verdicts) -> list[str]:
    """The cases in which our verdict is worse."""
    return [
        f"{case}: {'/'.join(theirs[case])} bare, {'/'.join(verdict)} behind the middleware"
        for case, verdict in ours.items()
        if any(mine > bare for mine, bare in zip(rank(verdict), rank(theirs[case]), strict=True))
    ]


def main() -> int:
    """Fuzz each way to serve, compare it with the bare server, and print what is worse."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--wstest", default="wstest", help="the client's program")
    parser.add_argument("--cases", nargs="*", help=f"all but the slow ones by default: {', '.join(SLOW)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="also the slow cases")
    parser.add_argument("--ways", nargs="*", default=["bare", "middleware", "protocol class"], choices=list(WAYS))
    options = parser.parse_args()
    verdicts: dict[str, Verdicts] = {}
    failed = False
    for way in options.ways:
        # If all cases that are named were excluded, the client would wait for ever.
        excluded = [] if options.all or options.cases else list(SLOW)
        rounds = [fuzz(options.wstest, WAYS[way], options.cases or ["*"], excluded) for _ in range(options.rounds)]
        verdicts[way] = best(rounds)
        print(f"{way:24}", dict(Counter(behaviour for behaviour, _ in verdicts[way].values())), flush=True)
        bare = verdicts.get(COMPARED.get(way, ""))
        for line in worse(verdicts[way], bare) if bare else ():
            failed = True
            print("  worse:", line)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
