"""The rows of the table: what is done to a proxy, and what it cost."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from origins import BULK_BYTES, Holder
from processes import BenchError, cpu_of, rss_bytes
from proxies import Kind, Proxy, Setup

CONNECTIONS = 64
BULK_CONNECTIONS = 4
IDLE_BATCH = 250  # below every backlog
MARGIN_SECONDS = 20.0  # a load generator that takes this much longer than asked is killed
ANSWER_SECONDS = 10.0
MEMORY_SETTLE_SECONDS = 1.0
BULK_CLIENT = Path(__file__).with_name("bulkclient.py")


@dataclass(frozen=True)
class Plan:
    """What all measurements have in common."""

    setup: Setup
    seconds: int
    idle_sessions: int


@dataclass(frozen=True)
class Sample:
    """One measurement: cost per unit of work, and what it was computed from."""

    cost: float
    work: float
    total: float  # CPU seconds, or bytes of RSS growth
    seconds: float


@dataclass(frozen=True)
class Row:
    """A line of the budget table; must and goal are ratios to HAProxy."""

    name: str
    title: str
    unit: str
    must: float | None
    goal: float | None
    measure: Callable[[Kind, Plan], Sample]


def parse_wrk(output: str) -> int:
    """The completed requests; BenchError when one of them failed."""
    if bad := re.search(r"Socket errors: .*|Non-2xx or 3xx responses: \d+", output):
        raise BenchError(f"wrk: {bad[0].strip()}")
    done = re.search(r"(\d+) requests in ", output)
    if done is None or done[1] == "0":
        raise BenchError(f"wrk completed nothing: {output.strip()[-200:]}")
    return int(done[1])


def run_tool(command: Sequence[str], seconds: int) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + MARGIN_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{Path(command[0]).name} hangs") from error
    if done.returncode:
        raise BenchError(f"{Path(command[0]).name} ended with status {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout


def wrk(port: int, seconds: int, headers: Sequence[str]) -> int:
    """Completed requests of 64 connections."""
    options = [f"-c{CONNECTIONS}", "-t1", f"-d{seconds}s", "--timeout", "5s"]
    for header in headers:
        options += ["-H", header]
    return parse_wrk(run_tool(["wrk", *options, f"http://127.0.0.1:{port}/small"], seconds))


def bulk(port: int, seconds: int) -> float:
    """Gigabytes (10**9) of complete bodies."""
    numbers = (port, BULK_CONNECTIONS, seconds, BULK_BYTES)
    result = json.loads(run_tool([sys.executable, str(BULK_CLIENT), *map(str, numbers)], seconds))
    if result["errors"]:
        raise BenchError(f"bulk client: {result['errors'][0]}")
    return float(result["bytes"]) / 1e9


def wait_answering(port: int) -> None:
    """Until a request comes back through the proxy: both it and the origin accept before their workers work."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/small", timeout=ANSWER_SECONDS):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise BenchError(f"no answer within {ANSWER_SECONDS:.0f} s: {error}") from error
            time.sleep(0.05)


def costed(proxy: Proxy, load: Callable[[int, int], float], seconds: int, scale: float) -> Sample:
    """The CPU of the proxy while the load runs, per unit of work, times `scale`."""
    wait_answering(proxy.port)
    load(proxy.port, 1)  # warm: memory pools, socket buffers, first use of a code path
    before, start = cpu_of(proxy.pid), time.monotonic()
    work = load(proxy.port, seconds)
    spent = cpu_of(proxy.pid).since(before)
    return Sample(spent * scale / work, work, spent, time.monotonic() - start)


def measure_wrk(*headers: str) -> Callable[[Kind, Plan], Sample]:
    def load(port: int, seconds: int) -> float:
        return wrk(port, seconds, headers)

    def measure(kind: Kind, plan: Plan) -> Sample:
        with kind.start(plan.setup) as proxy:
            return costed(proxy, load, plan.seconds, 1e6)

    return measure


def measure_bulk(haproxy_pipe: int) -> Callable[[Kind, Plan], Sample]:
    def measure(kind: Kind, plan: Plan) -> Sample:
        with kind.start(replace(plan.setup, haproxy_pipe=haproxy_pipe)) as proxy:
            return costed(proxy, bulk, plan.seconds, 1e3)

    return measure


def measure_idle(kind: Kind, plan: Plan) -> Sample:
    """Sessions that never carry a byte, all of them connected to the backend."""
    holder = Holder()
    clients: list[socket.socket] = []
    try:
        with kind.start(replace(plan.setup, backends=(holder.port,))) as proxy:
            before, start = rss_bytes(proxy.pid), time.monotonic()
            open_sessions(proxy.port, holder, plan.idle_sessions, clients)
            time.sleep(MEMORY_SETTLE_SECONDS)
            growth = rss_bytes(proxy.pid) - before
        return Sample(growth / 1024 / len(clients), len(clients), growth, time.monotonic() - start)
    finally:
        holder.close()
        for client in clients:
            client.close()


def open_sessions(port: int, holder: Holder, count: int, clients: list[socket.socket]) -> None:
    """In batches, so that neither the proxy's backlog nor the holder's overflows."""
    while len(clients) < count:
        batch = min(IDLE_BATCH, count - len(clients))
        try:
            clients.extend(socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(batch))
        except OSError as error:
            raise BenchError(f"client {len(clients)} can't connect: {error}") from error
        holder.accept(batch)


ROWS = {
    row.name: row
    for row in (
        Row("message", "tcp message", "CPU us/request", 1.20, 1.00, measure_wrk()),
        Row(
            "connection",
            "tcp connection per request",
            "CPU us/request",
            1.60,
            1.20,
            measure_wrk("Connection: close"),
        ),
        Row("bulk", "bulk, 64 MiB bodies", "CPU ms/GB", 0.90, 0.60, measure_bulk(64 << 10)),
        Row("bulk-tuned", "bulk, HAProxy's pipes raised to 1 MiB", "CPU ms/GB", None, None, measure_bulk(1 << 20)),
        Row("idle", "RSS per idle tcp session", "KB", 1.00, 0.50, measure_idle),
    )
}
