"""The rows of the table: what is done to a proxy, and what it cost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from configs import POOL_SIZE, Setup
from openloops import Pace, generator
from origins import BACKENDS, BULK_BYTES, Holder, connections_accepted
from processes import BenchError, cpu_of, rss_bytes
from proxies import Kind, Proxy
from wrk import WrkSummary

CONNECTIONS = 64
BULK_CONNECTIONS = 4
IDLE_BATCH = 250  # below every backlog
MARGIN_SECONDS = 20.0  # a load generator that takes this much longer than asked is killed
ANSWER_SECONDS = 10.0
LATENCY_RATES = (1000, 3000)  # per second, below what the slowest contestant can do
CHURN_RATE = 500
MANY_RATE = 1000
LATENCY_UNIT = "p99, ms"
FORWARDERS = ("nginx", "pen", "gevent", "asyncio", "proxy.py")  # that know tcp
# proxy.py cuts long bodies off where the backend closes, and each of its turns costs time for each open connection:
# 5,000 of them take it most of an hour.
STURDY = FORWARDERS[:-1]
MEMORY_SETTLE_SECONDS = 1.0
CORES = os.sched_getaffinity(0)  # before compare.py keeps itself to one
BULK_CLIENT = Path(__file__).with_name("bulkclient.py")
TRACED_SCRIPT = Path(__file__).with_name("traced.lua")

# What a browser sends for a page of a site where it is logged in; with Host these are 12.
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate, br",
    "Referer: http://shop.example.com/catalogue/lamps?page=2&sort=price",
    "Connection: keep-alive",
    "Cookie: session=5f2b7d0c9a814e63b7d15ae0c4f8a923; theme=dark; consent=necessary",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
)


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
    total: float  # CPU seconds, or bytes of RSS growth, or the milliseconds of the slowest request
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)  # microseconds of the latency's percentiles


@dataclass(frozen=True)
class Row:
    """A line of the budget table; must and goal are ratios to the baseline, another proxy."""

    name: str
    title: str
    unit: str
    must: float | None
    goal: float | None
    measure: Callable[[Kind, Plan], Sample]
    baseline: str = "haproxy"
    others: tuple[str, ...] = ("nginx",)  # beside the baseline and gproxy
    workers: int | None = None  # of each proxy, where they are what the row is about

    @property
    def proxies(self) -> tuple[str, ...]:
        """Those that take part."""
        return (self.baseline, *self.others, "gproxy")

    @property
    def of_latency(self) -> bool:
        """Its cost is a time that clients wait, and no work of the proxy."""
        return self.unit == LATENCY_UNIT


@dataclass(frozen=True)
class Load:
    """What wrk sends: GET with these fields, and perhaps a Lua script that makes each request."""

    path: str = "/small"
    headers: tuple[str, ...] = ()
    script: Path | None = None

    def __call__(self, port: int, seconds: int) -> float:
        """Completed requests of 64 connections."""
        options = [f"-c{CONNECTIONS}", "-t1", f"-d{seconds}s", "--timeout", "5s"]
        for header in self.headers:
            options += ["-H", header]
        if self.script:
            options += ["-s", str(self.script)]
        return parse_wrk(run_tool(["wrk", *options, f"http://127.0.0.1:{port}{self.path}"], seconds))


def parse_wrk(output: str) -> int:
    """The completed requests; BenchError when one of them failed."""
    summary = WrkSummary.parse(output)
    if summary.failures:
        raise BenchError(f"wrk: {summary.complaint}")
    if not summary.requests:
        raise BenchError(f"wrk completed nothing: {output.strip()[-200:]}")
    return summary.requests


def run_tool(command: Sequence[str], seconds: int) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + MARGIN_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{Path(command[0]).name} hangs") from error
    if done.returncode:
        raise BenchError(f"{Path(command[0]).name} ended with status {done.returncode}: {done.stderr.strip()[-200:]}")
    return done.stdout


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


def measure_tcp(load: Load) -> Callable[[Kind, Plan], Sample]:
    def measure(kind: Kind, plan: Plan) -> Sample:
        with kind.start(plan.setup) as proxy:
            return costed(proxy, load, plan.seconds, 1e6)

    return measure


def measure_http(load: Load, access_log: bool = False) -> Callable[[Kind, Plan], Sample]:
    """In http mode; BenchError for a proxy that did not pool its backend connections or lost lines of its log."""

    def measure(kind: Kind, plan: Plan) -> Sample:
        setup = replace(plan.setup, mode="http", access_log=access_log)
        done: list[float] = []  # by warming up, and by the measurement

        def counted(port: int, seconds: int) -> float:
            done.append(load(port, seconds))
            return done[-1]

        accepted = connections_accepted(setup.backends[0])
        with kind.start(setup) as proxy:
            sample = costed(proxy, counted, plan.seconds, 1e6)
            check_pooled(connections_accepted(setup.backends[0]) - accepted, sum(done))
        if access_log:
            check_logged(setup.access_file(kind.name), sum(done))
        return sample

    return measure


def check_pooled(dialled: int, requests: float) -> None:
    """Some dials are in order: wrk breaks off what it waits for when its time is up, and a proxy drops those."""
    if dialled > POOL_SIZE * BACKENDS + requests / 20:
        raise BenchError(f"{dialled} backend connections for {requests:.0f} requests: not pooled")


def check_logged(path: Path, requests: float) -> None:
    """After the proxy's end, as it may write late. The file goes: a fast proxy's is large, and lies in memory."""
    try:
        with path.open("rb") as file:
            lines = sum(1 for _ in file)
        path.unlink()
    except OSError as error:
        raise BenchError(f"no access log: {error}") from error
    if lines < requests:
        raise BenchError(f"{lines} lines of access log for {requests:.0f} requests")


def measure_bulk(haproxy_pipe: int, mode: str = "tcp") -> Callable[[Kind, Plan], Sample]:
    def measure(kind: Kind, plan: Plan) -> Sample:
        with kind.start(replace(plan.setup, mode=mode, haproxy_pipe=haproxy_pipe)) as proxy:
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


def measure_latency(mode: str, pace: Pace) -> Callable[[Kind, Plan], Sample]:
    """The percentiles at a fixed rate; openloop.py says what is counted."""

    def measure(kind: Kind, plan: Plan) -> Sample:
        with kind.start(replace(plan.setup, mode=mode)) as proxy:
            warm(proxy.port)
            with generator(proxy.port, pace, plan.seconds) as load:
                timing = load.run()
        figures = timing.figures
        return Sample(figures["p99"] / 1e3, timing.requests, figures["max"] / 1e3, timing.seconds, figures)

    return measure


def measure_paced(mode: str, pace: Pace) -> Callable[[Kind, Plan], Sample]:
    """CPU time per request while they come at a fixed rate; the connections are there before."""

    def measure(kind: Kind, plan: Plan) -> Sample:
        connections = pace.connections or plan.idle_sessions
        with kind.start(replace(plan.setup, mode=mode)) as proxy:
            warm(proxy.port)
            with generator(proxy.port, replace(pace, connections=connections), plan.seconds) as load:
                before = cpu_of(proxy.pid)
                timing = load.run()
                spent = cpu_of(proxy.pid).since(before)
        return Sample(1e6 * spent / timing.requests, timing.requests, spent, timing.seconds, timing.figures)

    return measure


def warm(port: int) -> None:
    wait_answering(port)
    Load()(port, 1)


def measure_workers(workers: int) -> Callable[[Kind, Plan], Sample]:
    """As http-keepalive, but nothing holds the proxy to one core."""

    def measure(kind: Kind, plan: Plan) -> Sample:
        with kind.start(replace(plan.setup, mode="http", core=None, workers=workers)) as proxy:
            return costed(proxy, Load(), plan.seconds, 1e6)

    return measure


TCP_ROWS = (
    Row("message", "tcp message", "CPU us/request", 1.20, 1.00, measure_tcp(Load()), others=FORWARDERS),
    Row(
        "connection",
        "tcp connection per request",
        "CPU us/request",
        1.60,
        1.20,
        measure_tcp(Load(headers=("Connection: close",))),
        others=FORWARDERS,
    ),
    Row("bulk", "bulk, 64 MiB bodies", "CPU ms/GB", 0.90, 0.60, measure_bulk(64 << 10), others=STURDY),
    Row("bulk-tuned", "bulk, HAProxy's pipes raised to 1 MiB", "CPU ms/GB", None, None, measure_bulk(1 << 20)),
    Row("idle", "RSS per idle tcp session", "KB", 1.00, 0.50, measure_idle, others=STURDY),
)


def http_row(name: str, title: str, load: Load, access_log: bool = False) -> Row:
    return Row(f"http-{name}", f"http {title}", "CPU us/request", 1.60, 1.20, measure_http(load, access_log))


SHORTEST = Load()
AS_BROWSER = Load(headers=BROWSER)
TRACED = Load("/traced", BROWSER, TRACED_SCRIPT)
CLOSING = Load(headers=("Connection: close",))

HTTP_ROWS = (
    http_row("keepalive", "keep-alive, shortest request", SHORTEST),
    http_row("keepalive-log", "keep-alive, shortest request, access log", SHORTEST, access_log=True),
    http_row("browser", "keep-alive, 12 fields", AS_BROWSER),
    http_row("browser-log", "keep-alive, 12 fields, access log", AS_BROWSER, access_log=True),
    replace(http_row("varied", "keep-alive, headers differ each time", TRACED), must=None, goal=None),
    http_row("connection", "connection per request", CLOSING),
    Row("http-bulk", "http bulk, 64 MiB bodies", "CPU ms/GB", 0.90, 0.60, measure_bulk(64 << 10, "http")),
    replace(http_row("caddy", "keep-alive against Caddy", SHORTEST), must=0.60, goal=0.35, baseline="caddy"),
)


def paced_rows(mode: str, prefix: str, others: tuple[str, ...]) -> tuple[Row, ...]:
    """Fixed rates: their costs have no budget."""
    many, churn = Pace(MANY_RATE, connections=0), Pace(CHURN_RATE, new=True)
    return (
        Row(f"{prefix}many", f"{mode}, many connections, {MANY_RATE} requests/s", "CPU us/request", None, None,
            measure_paced(mode, many), others=tuple(name for name in others if name != "proxy.py")),
        Row(f"{prefix}churn", f"{mode}, {CHURN_RATE} new connections/s", "CPU us/request", None, None,
            measure_paced(mode, churn), others=others),
        *(Row(f"{prefix}latency-{rate}", f"{mode}, {rate} requests/s", LATENCY_UNIT, None, None,
              measure_latency(mode, Pace(rate)), others=("direct", *others)) for rate in LATENCY_RATES),
    )  # fmt: skip


def workers_row(workers: int) -> Row:
    plural = "worker" if workers == 1 else "workers"
    return Row(f"workers-{workers}", f"http keep-alive, {workers} {plural}", "CPU us/request", None, None,
               measure_workers(workers), workers=workers)  # fmt: skip


PACED_ROWS = (*paced_rows("tcp", "", FORWARDERS), *paced_rows("http", "http-", ("nginx", "caddy")))
WORKERS_ROWS = tuple(workers_row(count) for count in (1, 2, 4, 8, 16) if count in (1, 2) or count < len(CORES))

ROWS = {row.name: row for row in (*TCP_ROWS, *HTTP_ROWS, *PACED_ROWS, *WORKERS_ROWS)}
