"""Reloads and upgrades under load: what do clients of gproxy, HAProxy and nginx lose?

    python loadtest/changes.py                     all rows, about a minute
    python loadtest/changes.py --quick             2 reloads, 1 upgrade: does it work at all?
    python loadtest/changes.py --rows downloads --proxies gproxy

On Debian: apt-get install wrk haproxy nginx-light libnginx-mod-stream

Two workers each (HAProxy: threads), http mode. masters.py says how each is changed.

    reloads      20 in a row, each with another backend. The next one waits until 20 answers in a
                 row, each on a new connection, came from the new backend. Meanwhile wrk keeps
                 32 connections alive, and 4 clients of our own open one for each request.
    upgrades     5 in a row, under the same load; the next one waits for the old master's end too.
                 HAProxy has none: each of its reloads executes the program anew.
    downloads    4 of 64 MiB, slow until first a reload and then an upgrade (HAProxy: a second
                 reload) took effect, then fast; all must have begun before and last until then.
                 Complete means the right length and the right SHA-256.

wrk's errors include each close of a kept connection that the proxy didn't announce with
`Connection: close` (wrk.py has the details): every one of them may cost a client a request.
A client that is never idle, as wrk, shows all of them. HTTP allows such a close, and a
browser would try again; that is why nginx's and HAProxy's are no defects, only worse.

`left over` counts processes of earlier configurations that are still there 20 s after the load.

Exit status: 0 gproxy lost nothing and left nothing over, 1 it did, or a measurement is
invalid, 2 a tool is missing or the arguments are wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shlex
import signal
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clients import Download, Tally, fetching
from compare import alone, names_of, positive, raise_file_limit, work_directory
from configs import Setup
from masters import CHANGE_SECONDS, Master, Way, ways
from measure import wait_answering
from origins import BULK_FILE, http_origin
from processes import BenchError, MissingToolError, wait_until
from proxies import check_tools
from report import JUDGED
from wrk import WrkSummary, wrk_running

WORKERS = 2
KEPT_CONNECTIONS = 32
CLIENTS = 4
SLOW_BYTES = 2 << 20  # per second and download: far from done when the changes are
DOWNLOAD_SECONDS = 60.0
SESSIONS = 1000  # what the limit of descriptors must allow


@dataclass
class Loss:
    """What one proxy did to its clients in one row."""

    row: str
    proxy: str
    effects: list[float] = field(default_factory=list)  # seconds until each change showed
    wrk: WrkSummary | None = None
    tally: Tally = field(default_factory=Tally)
    downloads: list[Download] = field(default_factory=list)
    left_over: int = 0
    invalid: str | None = None

    @property
    def lost(self) -> int:
        """Requests and downloads."""
        broken = sum(1 for download in self.downloads if download.failure)
        return (self.wrk.failures if self.wrk else 0) + self.tally.failed + broken

    @property
    def verdict(self) -> str:
        if self.invalid:
            return "INVALID"
        if self.lost:
            return f"LOST {self.lost}"
        return "LEFT OVER" if self.left_over else "nothing lost"


@dataclass(frozen=True)
class Plan:
    setup: Setup
    digest: str
    reloads: int
    upgrades: int
    downloads: int


@contextlib.contextmanager
def under_load(master: Master, loss: Loss, directory: Path) -> Iterator[None]:
    """Both loads run within the block; their numbers are in `loss` afterwards."""
    log = directory / "wrk.log"
    with wrk_running(master.port, "/small", KEPT_CONNECTIONS, log) as wrk:
        with fetching(master.port, "/small", CLIENTS, loss.tally):
            wait_until(lambda: loss.tally.succeeded > CLIENTS, CHANGE_SECONDS, "the first answers")
            yield
        if not wrk.runs:
            raise BenchError(f"wrk ended by itself: {log.read_text(errors='replace').strip()[-200:]}")
        loss.wrk = wrk.stop()


def measure_reloads(master: Master, plan: Plan, loss: Loss) -> None:
    with under_load(master, loss, plan.setup.directory):
        for _ in range(plan.reloads):
            loss.effects.append(master.reload(loss.tally))


def measure_upgrades(master: Master, plan: Plan, loss: Loss) -> None:
    with under_load(master, loss, plan.setup.directory):
        for _ in range(plan.upgrades):
            old = master.pid
            loss.effects.append(master.upgrade(loss.tally))
            master.wait_gone(old)


def measure_downloads(master: Master, plan: Plan, loss: Loss) -> None:
    hurry = threading.Event()
    loss.downloads = [Download(master.port, "/bulk", SLOW_BYTES, plan.digest, hurry) for _ in range(plan.downloads)]
    for download in loss.downloads:
        download.start()
    try:
        check_under_way(loss.downloads, "before the changes")
        loss.effects.append(master.reload(loss.tally))
        second = master.upgrade if master.upgrades else master.reload
        loss.effects.append(second(loss.tally))
        if done := sum(not each.failure and not each.under_way for each in loss.downloads):
            raise BenchError(f"{done} downloads were over before the changes were")
    finally:
        hurry.set()
        for download in loss.downloads:
            download.join(DOWNLOAD_SECONDS)


def check_under_way(downloads: Sequence[Download], when: str) -> None:
    wait_until(
        lambda: all(each.under_way or each.failure for each in downloads), CHANGE_SECONDS, f"{when}, all downloads"
    )


ROWS: dict[str, Callable[[Master, Plan, Loss], None]] = {
    "reloads": measure_reloads,
    "upgrades": measure_upgrades,
    "downloads": measure_downloads,
}


def take(row: str, way: Way, plan: Plan) -> Loss:
    loss = Loss(row, way.kind.name)
    try:
        with way.start(plan.setup) as master:
            wait_answering(master.port)
            ROWS[row](master, plan, loss)
            loss.left_over = master.left_over()
    except BenchError as error:
        loss.invalid = str(error)
    print(f"{row:10} {loss.proxy:8} {loss.invalid or loss.verdict}", file=sys.stderr, flush=True)
    return loss


def contestants(row: str, proxies: Sequence[str]) -> list[str]:
    return [name for name in proxies if row != "upgrades" or name != "haproxy"]


def line(loss: Loss) -> str:
    complete = sum(not each.failure for each in loss.downloads)
    cells = (
        loss.row,
        loss.proxy,
        str(len(loss.effects)),
        f"{statistics.median(loss.effects):.2f}" if loss.effects else "-",
        str(loss.wrk.requests) if loss.wrk else "-",
        loss.wrk.complaint if loss.wrk else "-",
        str(loss.tally.succeeded + loss.tally.failed),
        loss.tally.complaint,
        f"{complete} of {len(loss.downloads)}" if loss.downloads else "-",
        str(loss.left_over),
        loss.verdict,
    )
    return f"| {' | '.join(cells)} |"


def markdown(losses: Sequence[Loss]) -> str:
    """The table, and below it what can't be told in it."""
    lines = [
        "| row | proxy | changes | in effect after, s (median) | kept alive: requests | errors "
        "| one each: requests | errors | downloads | left over | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [line(loss) for loss in losses]
    notes = [f"- {loss.row}, {loss.proxy}, invalid: {loss.invalid}" for loss in losses if loss.invalid]
    for loss in losses:
        failures = {each.failure for each in loss.downloads if each.failure}
        notes += [f"- {loss.row}, {loss.proxy}: {failure}" for failure in sorted(failures)]
    return "\n".join([*lines, "", *notes] if notes else lines)


def passed(losses: Sequence[Loss]) -> bool:
    """gproxy lost nothing; the others may, but must have been measured."""
    return all(not loss.invalid and (loss.proxy != JUDGED or loss.verdict == "nothing lost") for loss in losses)


def run(options: argparse.Namespace) -> list[Loss]:
    check_tools(options.proxies)
    files = raise_file_limit(SESSIONS)
    known = ways(options.gproxy)
    with alone(), work_directory() as directory, http_origin(directory, None, files) as origins:
        digest = hashlib.sha256((directory / BULK_FILE).read_bytes()).hexdigest()
        setup = Setup(directory, origins.ports, None, files, mode="http", workers=WORKERS, changing=True)
        plan = Plan(setup, digest, options.reloads, options.upgrades, options.downloads)
        return [take(row, known[name], plan) for row in options.rows for name in contestants(row, options.proxies)]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    proxies = list(ways([]))
    parser.add_argument("--reloads", type=positive, default=20)
    parser.add_argument("--upgrades", type=positive, default=5)
    parser.add_argument("--downloads", type=positive, default=4, help="at the same time")
    parser.add_argument("--rows", type=lambda text: names_of(list(ROWS), text), default=list(ROWS), metavar="A,B")
    parser.add_argument("--proxies", type=lambda text: names_of(proxies, text), default=proxies, metavar="A,B")
    parser.add_argument("--gproxy", type=shlex.split, default=[], metavar="CMD", help="default: the one beside PYTHON")
    parser.add_argument("--quick", action="store_true", help="2 reloads, 1 upgrade")
    options = parser.parse_args(argv)
    if options.quick:
        options.reloads, options.upgrades = 2, 1
    if not any(contestants(row, options.proxies) for row in options.rows):
        parser.error("HAProxy has no upgrades")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    os.environ["PATH"] += ":/usr/sbin"  # where Debian has nginx and haproxy, and ordinary users don't look
    # SIGTERM ends us as Ctrl-C does, through every finally.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        losses = run(options)
    except MissingToolError as error:
        print(f"changes.py: {error}", file=sys.stderr)
        return 2
    except BenchError as error:
        print(f"changes.py: {error}", file=sys.stderr)
        return 1
    print(markdown(losses))
    return 0 if passed(losses) else 1


if __name__ == "__main__":
    sys.exit(main())
