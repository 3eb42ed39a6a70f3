"""Measures gproxy beside HAProxy, nginx, Caddy, Pen and what Python has, in tcp and http mode, against budgets.

    python loadtest/compare.py                     all rows, 5 rounds of 3 s, about 50 minutes
    python loadtest/compare.py --write docs/performance.md
                                                   the same, into that page: tables, plots, versions, configurations
    python loadtest/compare.py --quick             1 round of 1 s: does it work at all?
    python loadtest/compare.py --rows 'http-*' --proxies haproxy,gproxy --rounds 2 --seconds 2
    python loadtest/compare.py --rows bulk --json -

On Debian: apt-get install wrk haproxy nginx-light libnginx-mod-stream caddy pen
From PyPI: pip install proxy.py

Rounds are interleaved (HAProxy, nginx, gproxy, then again), each proxy starts fresh
for each measurement and has one core to itself; wrk and the origins (nginx) have
another. A cost is the CPU time of the proxy's process tree, per unit of work that the
load generator saw completed. The ratio, to HAProxy's cost, is the median of the ratios
within a round. configs.py says how the proxies are set up.

What the rows do:

    message             wrk, 64 connections kept alive, 100 bytes of body: a request there, a response back
    connection          the same with `Connection: close`: each request has a session of its own
    bulk                64 MiB bodies, four at a time, dropped in the client's kernel; HAProxy
                        splices, with its default pipes of 64 KiB
    bulk-tuned          the same, and HAProxy has pipes of 1 MiB, as gproxy has; no budget
    idle                RSS growth for 5,000 sessions, connected to a backend, that never carry a byte

    http-keepalive      in http mode: as message, the shortest request that wrk sends
    http-keepalive-log  the same, and each proxy writes its access log to a file
    http-browser        as http-keepalive, with the 12 fields that a browser sends
    http-browser-log    the same with the access log
    http-varied         as http-browser, and one more field differs in each request, and in
                        its response: for a proxy that remembers what it parsed; no budget
    http-connection     as connection, over backend connections that stay
    http-bulk           as bulk
    http-caddy          as http-keepalive; the ratio is to Caddy

    many, http-many     5,000 connections, each sends now and then (1,000 requests/s in all); no budget, as below
    churn, http-churn   500 new connections in a second, each for one request
    latency-N           N requests/s over 64 connections, the percentiles of how long clients wait, corrected for
    http-latency-N      coordinated omission (openloop.py says how); `direct` is the origin without a proxy
    workers-N           as http-keepalive, with N workers (HAProxy: threads) that no core is kept for

A measurement is invalid if a request failed, if in one of the http rows of wrk the proxy
did not keep its backend connections, or if lines of its access log are missing.

Exit status: 0 all budgets kept, 1 one missed or a measurement invalid, 2 a tool is missing
or the arguments are wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import fnmatch
import json
import os
import resource
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs import Setup
from configurations import Configurations
from machine import facts
from measure import CORES, ROWS, Plan, Row
from origins import http_origin
from processes import BenchError, Cores, MissingToolError
from proxies import INSTALLED, Kind, check_tools, kinds
from publish import check_page, write
from report import Outcome, RowResult, as_json, latency_table, markdown, passed

LOCK_SECONDS = 900.0


def names_of(known: Sequence[str], text: str) -> list[str]:
    """The named ones (http-* names several), in the order in which they are known: HAProxy goes first in each round."""
    wanted = text.split(",")
    if unknown := [each for each in wanted if not fnmatch.filter(known, each)]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
    return [name for name in known if any(fnmatch.fnmatch(name, each) for each in wanted)]


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    proxies = list(kinds([]))
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=positive, default=3, help="per measurement, after a second of warming up")
    parser.add_argument("--idle-sessions", type=positive, default=5000)
    parser.add_argument("--rows", type=lambda text: names_of(list(ROWS), text), default=list(ROWS), metavar="A,B")
    parser.add_argument("--proxies", type=lambda text: names_of(proxies, text), default=proxies, metavar="A,B")
    parser.add_argument("--gproxy", type=shlex.split, default=[], metavar="CMD", help="default: the one beside PYTHON")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="tables and plots into this page of Markdown, between its markers"
    )
    parser.add_argument("--json", metavar="FILE", help="every sample too; - writes JSON, and no table, to stdout")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds = options.seconds = 1
    options.rows = [name for name in options.rows if contestants(ROWS[name], options.proxies)]
    if not options.rows:
        parser.error(f"none of the rows has {' or '.join(options.proxies)} in it")
    return options


def contestants(row: Row, proxies: Sequence[str]) -> list[str]:
    """Of these proxies, those that take part in the row."""
    return [name for name in proxies if name in row.proxies]


def raise_file_limit(idle_sessions: int) -> int:
    """All descriptors that we may have, for us and our children; MissingToolError when too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    needed = 2 * idle_sessions + 1000
    if files < needed:
        raise MissingToolError(
            f"{needed} descriptors needed, {files} allowed: raise `ulimit -Hn`, or --idle-sessions less"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One comparison at a time: two would measure each other. Waits for LOCK_SECONDS at most."""
    deadline = time.monotonic() + LOCK_SECONDS
    with open(__file__, "rb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BenchError(f"another comparison still runs after {LOCK_SECONDS:.0f} s") from None
                time.sleep(1)
        yield


@contextlib.contextmanager
def work_directory() -> Iterator[Path]:
    """In memory where possible, so that the origin never reads a disk."""
    memory = Path("/dev/shm")
    base = str(memory) if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="gproxy-compare-", dir=base) as name:
        yield Path(name)


def take(row: Row, kind: Kind, plan: Plan) -> Outcome:
    try:
        sample = row.measure(kind, plan)
    except BenchError as error:
        print(f"{row.name:18} {kind.name:8} INVALID: {error}", file=sys.stderr, flush=True)
        return str(error)
    rate = sample.work / sample.seconds
    print(f"{row.name:18} {kind.name:8} {sample.cost:8.1f} {row.unit}, {rate:.1f}/s", file=sys.stderr, flush=True)
    return sample


def measure_all(options: argparse.Namespace, plan: Plan, configurations: Configurations) -> list[RowResult]:
    """Rounds outside, proxies inside: what changes on the machine meanwhile, changes for all."""
    known = kinds(options.gproxy)
    results = []
    for row in options.rows:
        result = RowResult(ROWS[row])
        for _ in range(options.rounds):
            for name in contestants(result.row, options.proxies):
                result.add(name, take(result.row, known[name], plan))
                configurations.note(row, known[name])
        results.append(result)
    return results


def run(options: argparse.Namespace) -> list[RowResult]:
    taking_part = list(dict.fromkeys(name for row in options.rows for name in contestants(ROWS[row], options.proxies)))
    check_tools(taking_part)
    if options.write:
        check_page(options.write)
    files = raise_file_limit(options.idle_sessions)
    cores = Cores.pick()
    os.sched_setaffinity(0, {cores.load})  # inherited by wrk and by the bulk client
    with alone(), work_directory() as directory, http_origin(directory, cores.load, files) as origins:
        setup = Setup(directory, origins.ports, cores.proxy, files)
        configurations = Configurations(directory)
        configurations.note_origin()
        results = measure_all(options, Plan(setup, options.seconds, options.idle_sessions), configurations)
    if options.write:
        known = {"repeat it": repeat(options), **facts(len(CORES), taking_part, options.gproxy or INSTALLED)}
        write(options.write, results, known, configurations.markdown())
    return results


def repeat(options: argparse.Namespace) -> str:
    """How to take the same once more."""
    counts = f"--rounds {options.rounds} --seconds {options.seconds} --idle-sessions {options.idle_sessions}"
    page = options.write.name if options.write.is_absolute() else options.write
    return f"`.venv/bin/python loadtest/compare.py {counts} --write {page}`"


def publish(results: Sequence[RowResult], target: str | None) -> None:
    document = json.dumps(as_json(results), indent=2)
    if target == "-":
        print(document)
        return
    print(markdown(results))
    if timed := [each for each in results if each.has_figures]:
        print("\nMilliseconds, by percentile:\n", latency_table(timed), sep="\n")
    if target:
        Path(target).write_text(document + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    os.environ["PATH"] += ":/usr/sbin"  # where Debian has nginx and haproxy, and ordinary users don't look
    # SIGTERM ends us as Ctrl-C does, through every finally.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        results = run(options)
    except MissingToolError as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    except BenchError as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 1
    publish(results, options.json)
    return 0 if passed(results) else 1


if __name__ == "__main__":
    sys.exit(main())
