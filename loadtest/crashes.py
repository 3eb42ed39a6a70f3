"""gproxy's workers are killed under load: who notices, and are the numbers still right?

    python loadtest/crashes.py                     a million requests, three SIGKILLs, about a minute
    python loadtest/crashes.py --requests 100000
    python loadtest/crashes.py --workers 1 --kills 0 --requests 100000     no crash: the numbers must agree exactly

On Debian: apt-get install wrk apache2-utils nginx-light

ab sends exactly as many requests over 64 connections that it keeps, to an origin (nginx)
that writes a line for each request that it answered to the last byte. A StatsD server of
our own adds up what gproxy reports. After each quarter of the requests a worker dies.

    counters     requests.LISTENER, and reuses plus connects of the backends, against the
                 origin's lines. A worker takes with it what it had not counted yet: up to 200
                 exchanges, and one on each connection. It must not be more than that.
    sessions     besides, connections that are open and idle, and belong to known workers: those of
                 the killed worker break, all others must answer another request.
    slot         seconds from the kill until a new process is seen to answer a request: chance has
                 a part in it, as a new connection may go to any worker. Only printed.
    gauge        seconds from the kill until active_connections_total is what the kernel
                 says; must be within a metrics interval, once the new worker serves.

Exit status: 0 all of that held, 1 something did not, 2 a tool is missing or the arguments
are wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clients import SILENCE_SECONDS, RequestFailed, kinds_of_failure, read_body, request
from compare import alone, positive, raise_file_limit, work_directory
from measure import wait_answering
from origins import Origins, answered_in_full, http_origin
from processes import (
    BenchError,
    Child,
    MissingToolError,
    free_port,
    lives,
    process_name,
    process_tree,
    running,
    wait_until,
)
from proxies import INSTALLED, REPOSITORY, check_tools
from sockets import accepted, acceptors
from statsd_server import Statsd, statsd_running

LOADING_CONNECTIONS = 64
HELD_CONNECTIONS = 40
UNCOUNTED_EXCHANGES = 200  # that a worker may hold back
METRICS_SECONDS = 1
PUSH_SECONDS = 0.5  # for a push to be made and to come here
WAIT_SECONDS = 20.0
LOOK_SECONDS = 0.2  # between looks at the origin's count
WORKER_NAME = "gproxy-worker"  # and the slot: what `ps -o comm` says
SLOWEST_RATE = 1000  # requests per second: a load that is slower than that hangs

CONF = """
load_balancer:
  connection_idle_timeout: 600
  client_idle_timeout: 600
  metrics_interval: {interval}
  drain_timeout: 5
workers: {workers}
listeners:
  - {{name: load, bind: "127.0.0.1:{load_port}", mode: http, upstream: counted}}
  - {{name: held, bind: "127.0.0.1:{held_port}", mode: http, upstream: other}}
upstreams:
  counted: {{health_check: {{type: none}}, backends: [{backends}]}}
  other: {{health_check: {{type: none}}, backends: [{backends}]}}
statsd: {{host: 127.0.0.1, port: {statsd_port}, prefix: crash}}
log: {{level: info}}
"""


@dataclass(frozen=True)
class Proxy:
    """gproxy's master; of its children some are workers."""

    child: Child
    load_port: int
    held_port: int

    def workers(self) -> list[int]:
        """By slot. Those of a slot's past are gone from the process tree, or zombies."""
        named = [(process_name(pid), pid) for pid in process_tree(self.child.pid) if lives(pid)]
        return [pid for name, pid in sorted(named) if name.startswith(WORKER_NAME)]

    def open_sessions(self) -> int:
        return len(accepted(self.load_port)) + len(accepted(self.held_port))


@dataclass(frozen=True)
class Crash:
    """What was seen after one kill."""

    victim: int
    own: int  # held connections of the victim
    broken: int  # of those
    others: int  # held connections of the other workers
    touched: int  # of those
    slot_seconds: float
    gauge_seconds: float

    @property
    def good(self) -> bool:
        in_time = self.gauge_seconds <= self.slot_seconds + METRICS_SECONDS + PUSH_SECONDS
        return self.broken == self.own and not self.touched and in_time


@dataclass(frozen=True)
class Counts:
    """What each of them saw of the load."""

    origin: int
    requests: int
    lent: int  # backend connections: reuses and connects
    client_done: int
    client_failed: int

    def good(self, kills: int) -> bool:
        room = allowed(kills)
        missing = (self.origin - self.requests, self.origin - self.lent)
        return all(abs(each) <= room for each in missing) and self.client_failed <= kills * LOADING_CONNECTIONS


def allowed(kills: int) -> int:
    """How many requests the killed workers may have taken with them."""
    return kills * (UNCOUNTED_EXCHANGES + LOADING_CONNECTIONS)


class Held:
    """Connections that are kept open: each has had one answer, and can have another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections = [self._open() for _ in range(HELD_CONNECTIONS)]

    def by_worker(self, workers: Sequence[int]) -> dict[int, list[socket.socket]]:
        owner = acceptors(self._port, workers)
        found: dict[int, list[socket.socket]] = {pid: [] for pid in workers}
        for connection in self._connections:
            local = connection.getsockname()[1]
            if local not in owner:
                raise BenchError("a held connection belongs to no worker")
            found[owner[local]].append(connection)
        return found

    def drop(self, connections: Sequence[socket.socket]) -> None:
        for connection in connections:
            connection.close()
        self._connections = [each for each in self._connections if each not in connections]

    def close(self) -> None:
        self.drop(list(self._connections))

    def _open(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=SILENCE_SECONDS)
        if not answers(connection):
            raise BenchError("a connection to be held was not answered")
        return connection


def answers(connection: socket.socket) -> bool:
    try:
        with kinds_of_failure():
            read_body(connection, request(connection, "/small", close=False))
    except RequestFailed:
        return False
    return True


@contextlib.contextmanager
def gproxy_running(options: argparse.Namespace, directory: Path, origins: Origins, statsd: Statsd) -> Iterator[Proxy]:
    load_port, held_port = free_port(), free_port()
    config = directory / "gproxy.conf"
    config.write_text(
        CONF.format(
            interval=METRICS_SECONDS,
            workers=options.workers,
            load_port=load_port,
            held_port=held_port,
            backends=", ".join(f'"127.0.0.1:{port}"' for port in origins.ports),
            statsd_port=statsd.port,
        )
    )
    program = options.gproxy or INSTALLED
    with running(Child([*program, str(config)], directory / "gproxy.log", None, REPOSITORY)) as child:
        child.wait_for(load_port)
        proxy = Proxy(child, load_port, held_port)
        wait_answering(held_port)
        wait_until(lambda: len(proxy.workers()) == options.workers, WAIT_SECONDS, f"{options.workers} workers")
        yield proxy


class Ab:
    """ab with a number of requests that it keeps to, also when connections break."""

    def __init__(self, port: int, requests: int, log: Path) -> None:
        self._log = log
        options = ["-q", "-r", "-k", "-s", "30", "-c", str(LOADING_CONNECTIONS), "-n", str(requests)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["ab", *options, f"http://127.0.0.1:{port}/counted"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def result(self, seconds: float) -> tuple[int, int]:
        """Requests done, and how many of them failed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()
        return parse_ab(self._log.read_text(errors="replace"))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(WAIT_SECONDS)


def parse_ab(output: str) -> tuple[int, int]:
    """Requests done, and how many of them failed; a broken one counts once, though ab counts it as up to three."""
    done = re.search(r"Complete requests: +(\d+)", output)
    failed = re.search(r"Failed requests: +(\d+)", output)
    if not (done and failed):
        raise BenchError(f"ab says: {output.strip()[-300:]}")
    kinds = re.search(r"\(Connect: (\d+), Receive: (\d+), Length: (\d+), Exceptions: (\d+)\)", output)
    return int(done[1]), max(map(int, kinds.groups())) if kinds else int(failed[1])


@contextlib.contextmanager
def ab_running(port: int, requests: int, log: Path) -> Iterator[Ab]:
    ab = Ab(port, requests, log)
    try:
        yield ab
    finally:
        ab.kill()


def await_answered(directory: Path, count: int, ab: Ab) -> None:
    deadline = time.monotonic() + WAIT_SECONDS + count / SLOWEST_RATE
    while answered_in_full(directory) < count:
        if not ab.runs:
            raise BenchError("ab ended before the last kill")
        if time.monotonic() > deadline:
            raise BenchError(f"the origin has not answered {count} requests in time")
        time.sleep(LOOK_SECONDS)


def crash(proxy: Proxy, victim: int, held: Held, statsd: Statsd) -> Crash:
    before = proxy.workers()
    connections = held.by_worker(before)
    own = connections.pop(victim)
    others = [connection for each in connections.values() for connection in each]
    start = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    slot_seconds = await_slot(proxy, set(before), start)
    broken = sum(not answers(connection) for connection in own)
    touched = [connection for connection in others if not answers(connection)]
    held.drop([*own, *touched])
    return Crash(victim, len(own), broken, len(others), len(touched), slot_seconds, await_gauge(proxy, statsd, start))


def await_slot(proxy: Proxy, before: set[int], start: float) -> float:
    """Seconds until a process that is new has answered a request."""

    def new_one_answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", proxy.held_port), timeout=1) as probe:
            if answers(probe):
                owner = acceptors(proxy.held_port, proxy.workers()).get(probe.getsockname()[1])
                return owner is not None and owner not in before
        return False

    wait_until(new_one_answers, WAIT_SECONDS, f"a new worker: {proxy.child.tail()}")
    return time.monotonic() - start


def await_gauge(proxy: Proxy, statsd: Statsd, start: float) -> float:
    """Seconds until the gauge is right; WAIT_SECONDS if it never was."""
    with contextlib.suppress(BenchError):
        wait_until(
            lambda: statsd.gauges.get("crash.active_connections_total") == proxy.open_sessions(), WAIT_SECONDS, "gauge"
        )
    return time.monotonic() - start


def run_load(
    options: argparse.Namespace, directory: Path, proxy: Proxy, statsd: Statsd
) -> tuple[list[Crash], tuple[int, int]]:
    held = Held(proxy.held_port)
    workers = proxy.workers()
    crashes = []
    try:
        with ab_running(proxy.load_port, options.requests, directory / "ab.log") as ab:
            for number in range(options.kills):
                await_answered(directory, (number + 1) * options.requests // (options.kills + 1), ab)
                crashes.append(crash(proxy, workers[number], held, statsd))
            return crashes, ab.result(WAIT_SECONDS + options.requests / SLOWEST_RATE)
    finally:
        held.close()


def run(options: argparse.Namespace) -> tuple[list[Crash], Counts]:
    check_tools(["ab"])
    files = raise_file_limit(LOADING_CONNECTIONS + HELD_CONNECTIONS)
    with alone(), work_directory() as directory, http_origin(directory, None, files) as origins:
        with statsd_running() as statsd, gproxy_running(options, directory, origins, statsd) as proxy:
            crashes, (done, failed) = run_load(options, directory, proxy, statsd)
        # gproxy has ended, with a last push.
        counts = Counts(
            origin=answered_in_full(directory),
            requests=statsd.total(r"crash\.requests\.load"),
            lent=statsd.total(r"crash\.upstream\.counted\.backend\.[^.]+\.(reuses|connects)"),
            client_done=done,
            client_failed=failed,
        )
        print(f"bytes: {statsd.counters['crash.bytes_in']} in, {statsd.counters['crash.bytes_out']} out")
    return crashes, counts


def report(crashes: Sequence[Crash], counts: Counts) -> str:
    lines = [
        "| killed | its connections: broken | others' connections: broken | slot serves after, s "
        "| gauge right after, s | verdict |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.victim} | {each.own}: {each.broken} | {each.others}: {each.touched} | {each.slot_seconds:.2f} "
        f"| {each.gauge_seconds:.2f} | {'good' if each.good else 'WRONG'} |"
        for each in crashes
    ]
    room = allowed(len(crashes))
    lines += [
        "",
        f"| counted by | requests | less than the origin (allowed: {room}) |",
        "|---|---|---|",
        f"| the origin, answered | {counts.origin} | - |",
        f"| gproxy, requests.load | {counts.requests} | {counts.origin - counts.requests} |",
        f"| gproxy, reuses + connects | {counts.lent} | {counts.origin - counts.lent} |",
        f"| the client, done | {counts.client_done}, failed {counts.client_failed} | - |",
        "",
        f"verdict: {'good' if counts.good(len(crashes)) else 'WRONG'}",
    ]
    return "\n".join(lines)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=positive, default=1_000_000)
    parser.add_argument("--workers", type=positive, default=4)
    parser.add_argument("--kills", type=int, choices=range(11), default=3, metavar="N")
    parser.add_argument("--gproxy", type=shlex.split, default=[], metavar="CMD", help="default: the one beside PYTHON")
    options = parser.parse_args(argv)
    if options.kills >= options.workers:
        parser.error("at least one of the first workers must survive")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    os.environ["PATH"] += ":/usr/sbin"  # where Debian has nginx
    # SIGTERM ends us as Ctrl-C does, through every finally.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        crashes, counts = run(options)
    except MissingToolError as error:
        print(f"crashes.py: {error}", file=sys.stderr)
        return 2
    except BenchError as error:
        print(f"crashes.py: {error}", file=sys.stderr)
        return 1
    print(report(crashes, counts))
    return 0 if counts.good(options.kills) and all(each.good for each in crashes) else 1


if __name__ == "__main__":
    sys.exit(main())
