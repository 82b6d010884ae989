"""Broadcast to 1,000 clients: the manager beside a loop of ``send_text``, in turn, in one run.

    python -m benchmarks.broadcast [--clients 1000] [--rounds 5] [--loop uvloop]

One server process serves both ways on the same sockets' routes; one client process counts bytes of
frames and parses nothing. A round sends 20 messages in one call and single messages one by one;
printed are thousand deliveries per second, the median of all rounds, with the least and the most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from typing import Any

MESSAGE = "x" * 128
FRAME = 4 + len(MESSAGE)
BURST = 20
WAYS = ("manager", "loop", "gather")


def make_app() -> Any:
    """Both ways to broadcast, behind the middleware and beside it."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    from wsstab import WebSocketStabilizer

    bare: set[WebSocket] = set()

    async def stable(websocket: WebSocket) -> None:
        await websocket.accept()
        async for _ in websocket.iter_text():
            pass

    async def plain(websocket: WebSocket) -> None:
        await websocket.accept()
        bare.add(websocket)
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            bare.discard(websocket)

    async def send(request: Request) -> JSONResponse:
        way, count = request.query_params["way"], int(request.query_params["count"])
        for _ in range(count):
            if way == "manager":
                await request.state.manager.broadcast(MESSAGE)
            elif way == "loop":
                for websocket in bare:
                    await websocket.send_text(MESSAGE)
            else:
                await asyncio.gather(*(websocket.send_text(MESSAGE) for websocket in bare))
        return JSONResponse({})

    async def app(scope: Any, receive: Any, send_event: Any) -> None:
        routed = inner if scope["path"] == "/plain" else stabilised
        await routed(scope, receive, send_event)

    inner = Starlette(routes=[WebSocketRoute("/plain", plain)])
    stabilised = WebSocketStabilizer(Starlette(routes=[WebSocketRoute("/stable", stable), Route("/send", send)]))
    return app


async def connect(port: int, path: str) -> asyncio.StreamReader:
    """One client, with its handshake done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    KEPT.append(writer)
    return reader


KEPT: list[asyncio.StreamWriter] = []


async def count_frames(readers: list[asyncio.StreamReader], frames: int) -> None:
    """Return when every client has had so many frames."""
    await asyncio.gather(*(reader.readexactly(frames * FRAME) for reader in readers))


async def measure(port: int, readers: list[asyncio.StreamReader], way: str, count: int) -> float:
    """Thousand deliveries per second."""
    began = time.perf_counter()
    url = f"http://127.0.0.1:{port}/send?way={way}&count={count}"
    waiting = asyncio.ensure_future(count_frames(readers, count))
    await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())
    await waiting
    return len(readers) * count / (time.perf_counter() - began) / 1000


async def run(port: int, clients: int, rounds: int) -> dict[str, list[float]]:
    """All ways in turn, round after round."""
    readers = {path: [await connect(port, path) for _ in range(clients)] for path in ("/stable", "/plain")}
    rates: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for count in (BURST, 1):
            for way in WAYS:
                path = "/stable" if way == "manager" else "/plain"
                rate = await measure(port, readers[path], way, count)
                if turn:
                    rates.setdefault(f"{way} × {count}", []).append(rate)
    return rates


def main() -> None:
    """Start the server on one core, measure from another."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--clients", type=int, default=1000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--loop", default="uvloop")
    options = arguments.parse_args()
    # Whoever connects before the server is up waits in the backlog.
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(2048)
        listening.set_inheritable(True)
        port = listening.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.broadcast:make_app"]
        command += ["--fd", str(listening.fileno()), "--loop", options.loop, "--log-level", "warning"]
        server = subprocess.Popen(command, pass_fds=[listening.fileno()])
    try:
        pin(server.pid, 0)
        pin(os.getpid(), 1)
        rates = asyncio.run(run(port, options.clients, options.rounds))
    finally:
        server.terminate()
        server.wait()
    for way, values in rates.items():
        print(f"{way:14} {statistics.median(values):7.0f}   ({min(values):.0f}–{max(values):.0f}) thousand a second")
    print(json.dumps({way: statistics.median(values) for way, values in rates.items()}))


def pin(process: int, core: int) -> None:
    """Keep a process on one core, where the machine has another."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(process, {core})


if __name__ == "__main__":
    main()
