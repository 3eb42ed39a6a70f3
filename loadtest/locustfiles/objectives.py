"""Service-level objectives of a scenario: they set the exit status of Locust.

    hold(Objectives(errors=0.001, p95=500))

Each can be set anew by an option of its own (--max-errors, --p50, --p95, --p99). They are judged once, at the end,
by the process that has all figures: the master, or the only one.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import calculate_response_time_percentile

PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
STARTED = "SCENARIO_STARTED"  # names the file that says: from now on there is load


@dataclass(frozen=True)
class Objectives:
    """Ratio of errors to requests, and milliseconds that a percentile may take; None: no objective."""

    errors: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    timed: tuple[str, ...] = ()  # the requests whose times count, by name; none: all of them


@dataclass(frozen=True)
class Finding:
    """One objective, and what came of it."""

    what: str
    limit: str
    measured: str
    kept: bool

    def __str__(self) -> str:
        return f"{self.what:10} at most {self.limit:>10}, measured {self.measured:>10}: {self.verdict}"

    @property
    def verdict(self) -> str:
        return "kept" if self.kept else "MISSED"


def hold(objectives: Objectives) -> None:
    """Makes them options of Locust, judges them at the end of the run, and prints what came of each."""
    findings: list[Finding] = []

    def add_options(parser: ArgumentParser, **_: Any) -> None:
        group = parser.add_argument_group("Objectives")
        group.add_argument("--max-errors", type=float, default=objectives.errors, metavar="RATIO")
        for name in PERCENTILES:
            group.add_argument(f"--{name}", type=float, default=getattr(objectives, name), metavar="MS")

    def tell(environment: Environment, **_: Any) -> None:
        if STARTED in os.environ and not isinstance(environment.runner, WorkerRunner):
            Path(os.environ[STARTED]).touch()

    def judge(environment: Environment, **_: Any) -> None:
        if isinstance(environment.runner, WorkerRunner):
            return
        findings.extend(judged(environment, objectives.timed))
        environment.process_exit_code = 0 if all(each.kept for each in findings) else 1

    def show(**_: Any) -> None:
        if findings:
            print("Objectives", *findings, sep="\n  ", flush=True)

    hooks: Any = events  # add_listener has no types
    hooks.init_command_line_parser.add_listener(add_options)
    hooks.test_start.add_listener(tell)
    hooks.quitting.add_listener(judge)
    hooks.quit.add_listener(show)  # after Locust's own tables


def judged(environment: Environment, timed: tuple[str, ...]) -> Iterator[Finding]:
    """The errors first; without a request nothing is kept."""
    total, options = environment.stats.total, environment.parsed_options
    assert options is not None
    kept = bool(total.num_requests) and total.fail_ratio <= options.max_errors
    measured = f"{total.fail_ratio:.3%}" if total.num_requests else "no request"
    yield Finding("errors", f"{options.max_errors:.3%}", measured, kept)
    times = response_times(environment, timed)
    for name, percent in PERCENTILES.items():
        limit = getattr(options, name)
        if limit is not None:
            yield timing(name, percent, limit, times)


def response_times(environment: Environment, timed: tuple[str, ...]) -> Counter[int]:
    """How many requests took so many milliseconds."""
    times: Counter[int] = Counter()
    for entry in environment.stats.entries.values():
        if not timed or entry.name in timed:
            times.update(entry.response_times)
    return times


def timing(name: str, percent: float, limit: float, times: Counter[int]) -> Finding:
    if not times:
        return Finding(name, f"{limit:g} ms", "no request", False)
    measured = calculate_response_time_percentile(dict(times), times.total(), percent)
    return Finding(name, f"{limit:g} ms", f"{measured:g} ms", measured <= limit)
