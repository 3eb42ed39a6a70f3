"""Loads and faults at random against gproxy, and a ledger of what its backends executed.

    python loadtest/chaos.py                             two minutes, with a new seed
    python loadtest/chaos.py --minutes 60 --report report.json
    python loadtest/chaos.py --seed 4711                 the same again, as far as time allows
    python loadtest/chaos.py --from report.json --document docs/reliability.md    no run: the section of the manual

    clients      http and tcp, small and large, by length, in chunks, until close, kept alive or one connection each,
                 pipelined, HEAD, PUT, upgrades, half closes, slow readers; they abort in every phase
    backends     are killed and restarted, frozen, sick; reset, break off, lie, are slow, end idle connections
    gproxy       its workers and its steward are killed and frozen; it is reloaded with other configurations, and with
                 nonsense; upgraded; its backends are drained, weighted, ejected; its log is moved away

Each request has a mark of its own, which its response and all of both bodies carry. At any time:

    clients      no response, and no part of one, is anybody else's; no connection is refused; nobody waits for ever
    ledger       nothing is executed that nobody asked for, or not as a whole; POST and tcp at most once, others at most
                 as often as retries allow; what was answered was executed

After each rough phase, and after each calm one, in which nothing is broken:

    at rest      no session, no queue, no old process; every backend serves, and pools have emptied
    holdings     descriptors, watchers and greenlets of each process are what they were
    log          no traceback, nothing hung
    calm         all was answered and executed exactly once, and gproxy's counters agree with clients and backends
    memory       no process grows from rest to rest

The seed decides what each actor does, and in which order; when, the machine does as well. Everything is on loopback,
and is gone at the end. Exit status: 0 nothing wrong, 1 something is, or could not be started, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import repository  # noqa: F401  # before what needs `tests`
from processes import BenchError, process_tree
from soak import checks, document, settings
from soak.holdings import readings
from soak.journal import JournalReader
from soak.memory import Curve, judged
from soak.origins import origins_running
from soak.program import Report, Scene, run
from soak.proxy import adopt_orphans, proxy_running
from statsd_server import Statsd, statsd_running

ORIGINS = 3
CURVE_SECONDS = 5.0


def perform(options: argparse.Namespace, directory: Path) -> Report:
    report = Report(options.seed, options.minutes, options.rate, options.processes)
    journal = directory / "journal"
    journal.touch()
    with statsd_running() as statsd, origins_running(ORIGINS, journal, options.seed) as origins:
        scene = play(settings.Place(origins, directory, statsd.port), JournalReader(journal), report)
    # gproxy has ended, with a last push.
    if not report.violations:
        report.check("totals", checks.totals(scene.totals, partial(told, statsd), report.rate))
    return report


def told(statsd: Statsd, pattern: str) -> int:
    return statsd.total(rf"{settings.PREFIX}\.{pattern}")


def play(place: settings.Place, journal: JournalReader, report: Report) -> Scene:
    rng = random.Random(f"{report.seed} configurations")
    with proxy_running(place.directory, settings.choose(rng, place)) as proxy:
        scene = Scene(place, proxy, journal, report, rng)
        with curve(scene):
            try:
                run(scene)
            finally:
                scene.over.set()
        report.check("end", [] if proxy.stop() else ["gproxy did not end in time"])
    return scene


@contextlib.contextmanager
def curve(scene: Scene) -> Iterator[None]:
    """The report's memory curve is taken within the block."""
    taken = Curve(lambda: readings(scene.proxy, scene.began), CURVE_SECONDS)
    taken.start()
    try:
        yield
    finally:
        taken.stop()
        scene.report.curve = taken.points
        scene.report.judged = judged(scene.at_rest)


def command(report: Report) -> str:
    numbers = f"--minutes {report.minutes:g} --rate {report.rate:g} --processes {report.processes:g}"
    return f"python loadtest/chaos.py --seed {report.seed} {numbers}"


def end_all() -> None:
    """Whatever we have started and is still there."""
    for pid in process_tree(os.getpid())[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def conclude(report: Report, directory: Path) -> int:
    """Prints what is wrong, if anything is; the exit status."""
    for each in report.violations:
        print(f"WRONG: {each}")
    print(f"{report.cycles} cycles, {report.seconds:.0f} s, {sum(report.requests.values())} requests, "
          f"{sum(report.checked.values())} checks, {len(report.violations)} violations")  # fmt: skip
    if not report.violations:
        return 0
    kept = Path(tempfile.mkdtemp(prefix="chaos-kept-"))
    shutil.copytree(directory, kept, dirs_exist_ok=True)
    print(f"gproxy's log and configuration are kept in {kept}; again: {command(report)}")
    return 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=150.0, help="actions of clients per second, all together")
    parser.add_argument(
        "--processes",
        type=float,
        default=0.3,
        metavar="SHARE",
        help="of the time, to break gproxy's own, too",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="JSON: all that was counted, and the memory curve")
    parser.add_argument("--from", type=Path, metavar="REPORT", dest="source", help="don't run: take this report")
    parser.add_argument("--document", type=Path, metavar="PAGE", help="write the section of this Markdown page")
    options = parser.parse_args(argv)
    if not 0 < options.minutes <= 24 * 60 or not 0 < options.rate <= 5000 or not 0 <= options.processes <= 1:
        parser.error("--minutes up to 1440, --rate up to 5000, --processes from 0 to 1")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    if options.source:
        if options.document:
            document.write(json.loads(options.source.read_text()), options.document)
        return 0
    # SIGTERM ends us as Ctrl-C does, through every finally.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt_orphans()
    print(f"seed {options.seed}", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="gproxy-chaos-") as name:
            report = perform(options, Path(name))
            if options.report:
                options.report.write_text(json.dumps(report.document()) + "\n")
            if options.document:
                document.write(report.document(), options.document)
            return conclude(report, Path(name))
    except (BenchError, OSError) as error:
        print(f"chaos.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        end_all()


if __name__ == "__main__":
    sys.exit(main())
