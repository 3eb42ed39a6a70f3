"""What a second worker costs, and how long gproxy takes to start and to reload.

    python loadtest/scaling.py                     everything, about 2 minutes
    python loadtest/scaling.py --quick             one round each: does it work at all?
    python loadtest/scaling.py --rows start --rounds 9

On Debian: apt-get install wrk nginx-light

    workers   http, keep-alive, shortest request, as in compare.py: CPU time of gproxy's process tree per
              request that wrk completed, with 1 worker and with 2, in turns. Nothing is pinned to a
              core, because two workers want two. The ratio is the median of the ratios in a round.
              Where wrk, the origin and two workers have fewer than four cores, they also cost each
              other time:
    nginx     the same with nginx shows how much of the ratio is the machine's. Not judged.
    start     from executing the program to the first answer, with 100 backends
    reload    from SIGHUP to the log's word that the new configuration serves, with 1,000
              backends of which each second reload has other ports

In the last two gproxy checks its backends as it does by default: each is connected to once
before the first client is served.

Exit status: 0 all limits kept, 1 one missed or a measurement invalid, 2 a tool is missing or
the arguments are wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clients import RequestFailed, fetch
from compare import alone, names_of, positive, raise_file_limit, work_directory
from configs import Setup
from measure import Plan as LoadPlan
from measure import measure_workers as with_workers
from origins import BULK_FILE, http_origin
from processes import BenchError, Child, MissingToolError, free_port, running, wait_until
from proxies import Kind, check_tools, kinds

MUST_RATIO = 1.10
MUST_START_SECONDS = 0.400
MUST_RELOAD_SECONDS = 2.0
START_BACKENDS = 100
RELOAD_BACKENDS = 1000
WAIT_SECONDS = 30.0
SESSIONS = 2000  # what the limit of descriptors must allow
READY = r"is ready|reloaded"


@dataclass(frozen=True)
class Plan:
    kinds: dict[str, Kind]
    directory: Path
    files: int
    rounds: int
    seconds: int
    ready: str

    @property
    def kind(self) -> Kind:
        return self.kinds["gproxy"]

    def setup(self, backends: tuple[int, ...]) -> Setup:
        return Setup(self.directory, backends, None, self.files, mode="http")


@dataclass(frozen=True)
class Result:
    """One line of the table: what it was, its samples, their median, and what it must not exceed."""

    title: str
    samples: list[float]
    must: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def good(self) -> bool:
        return self.must is None or self.median <= self.must

    @property
    def verdict(self) -> str:
        if self.must is None:
            return "-"
        return "must" if self.good else "OVER"


@contextlib.contextmanager
def origin_ports(plan: Plan, count: int) -> Iterator[tuple[int, ...]]:
    with http_origin(plan.directory, None, plan.files, count) as origins:
        (plan.directory / BULK_FILE).unlink()  # it would only take memory
        yield origins.ports


def measure_workers(plan: Plan) -> Result:
    with origin_ports(plan, 3) as ports:
        ratios = [worker_ratio(plan, plan.kind, ports) for _ in range(plan.rounds)]
    return Result("CPU per request, 2 workers to 1", ratios, MUST_RATIO)


def measure_nginx(plan: Plan) -> Result:
    with origin_ports(plan, 3) as ports:
        ratios = [worker_ratio(plan, plan.kinds["nginx"], ports) for _ in range(plan.rounds)]
    return Result("the same of nginx", ratios)


def worker_ratio(plan: Plan, kind: Kind, ports: tuple[int, ...]) -> float:
    costs = []
    for workers in (1, 2):
        sample = with_workers(workers)(kind, LoadPlan(plan.setup(ports), plan.seconds, SESSIONS))
        note(
            f"{kind.name}, {workers} worker(s): {sample.cost:.1f} CPU us/request, {sample.work / sample.seconds:.0f}/s"
        )
        costs.append(sample.cost)
    return costs[1] / costs[0]


def measure_start(plan: Plan) -> Result:
    with origin_ports(plan, START_BACKENDS) as ports:
        samples = [start_seconds(plan, replace(plan.setup(ports), checked=True)) for _ in range(plan.rounds)]
    return Result(f"cold start to the first answer, {START_BACKENDS} backends, s", samples, MUST_START_SECONDS)


def start_seconds(plan: Plan, setup: Setup) -> float:
    port = free_port()
    start = time.monotonic()
    with running(plan.kind.launch(setup, port)) as child:
        await_answer(port, child)
        seconds = time.monotonic() - start
    note(f"start: {seconds:.3f} s")
    return seconds


def await_answer(port: int, child: Child) -> None:
    def answered() -> bool:
        if child.process.poll() is not None:
            raise BenchError(f"gproxy ended at its start: {child.tail()}")
        with contextlib.suppress(RequestFailed):
            return bool(fetch(port, "/small"))
        return False

    wait_until(answered, WAIT_SECONDS, "the first answer")


def measure_reload(plan: Plan) -> Result:
    with origin_ports(plan, RELOAD_BACKENDS + 1) as ports:
        setup = replace(plan.setup(ports[1:]), checked=True, changing=True, gproxy_level="info")
        samples = reload_seconds(plan, setup, replace(setup, backends=ports[:-1]))
    return Result(f"SIGHUP to ready, {RELOAD_BACKENDS} backends, s", samples, MUST_RELOAD_SECONDS)


def reload_seconds(plan: Plan, first: Setup, second: Setup) -> list[float]:
    """Of as many reloads as there are rounds, to one configuration and back."""
    port = free_port()
    with running(plan.kind.launch(first, port)) as child:
        await_answer(port, child)
        wait_until(lambda: says_ready(child, 0, plan.ready), WAIT_SECONDS, f"{plan.ready!r} in the log")
        return [one_reload(plan, (second, first)[number % 2], port, child) for number in range(plan.rounds)]


def one_reload(plan: Plan, setup: Setup, port: int, child: Child) -> float:
    plan.kind.write_config(setup, port)
    seen = child.log.stat().st_size
    start = time.monotonic()
    child.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: says_ready(child, seen, plan.ready), WAIT_SECONDS, f"{plan.ready!r} in the log, but: {child.tail()}"
    )
    seconds = time.monotonic() - start
    await_answer(port, child)
    note(f"reload: {seconds:.3f} s")
    return seconds


def says_ready(child: Child, after: int, pattern: str) -> bool:
    with child.log.open("rb") as file:
        file.seek(after)
        return re.search(pattern, file.read().decode(errors="replace")) is not None


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


ROWS: dict[str, Callable[[Plan], Result]] = {
    "workers": measure_workers,
    "nginx": measure_nginx,
    "start": measure_start,
    "reload": measure_reload,
}


def line(result: Result) -> str:
    spread = f"{min(result.samples):.3f}-{max(result.samples):.3f}"
    must = "-" if result.must is None else f"{result.must:.2f}"
    return f"| {result.title} | {result.median:.3f} | {spread} | {must} | {result.verdict} |"


def run(options: argparse.Namespace) -> bool:
    """Whether all was good."""
    check_tools([])
    files = raise_file_limit(SESSIONS)
    lines, good = ["| what | median | min-max | must | verdict |", "|---|---|---|---|---|"], True
    with alone(), work_directory() as directory:
        plan = Plan(kinds(options.gproxy), directory, files, options.rounds, options.seconds, options.ready)
        for row in options.rows:
            try:
                result = ROWS[row](plan)
            except BenchError as error:
                good = False
                lines.append(f"| {row} | - | - | - | INVALID: {error} |")
            else:
                good = good and result.good
                lines.append(line(result))
    print("\n".join(lines))
    return good


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=positive, default=3, help="for a measurement of CPU time")
    parser.add_argument("--rows", type=lambda text: names_of(list(ROWS), text), default=list(ROWS), metavar="A,B")
    parser.add_argument("--ready", default=READY, metavar="REGEX", help=f"in the log after a reload: {READY}")
    parser.add_argument("--gproxy", type=shlex.split, default=[], metavar="CMD", help="default: the one beside PYTHON")
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds = options.seconds = 1
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    os.environ["PATH"] += ":/usr/sbin"  # where Debian has nginx
    # SIGTERM ends us as Ctrl-C does, through every finally.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return 0 if run(options) else 1
    except MissingToolError as error:
        print(f"scaling.py: {error}", file=sys.stderr)
        return 2
    except BenchError as error:
        print(f"scaling.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
