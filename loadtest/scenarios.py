"""Locust scenarios: starts three backends and gproxy, puts load on them, and says which objectives were kept.

    python loadtest/scenarios.py steady
    python loadtest/scenarios.py staircase --users 200 --seconds 60 --html staircase.html
    python loadtest/scenarios.py failover --max-errors 0.02 --p95 1000
    python loadtest/scenarios.py steady --gproxy-workers 2 -- --csv steady

With .venv/bin/pip install -e '.[load]'. What follows -- goes to Locust as it is. The scenarios, each a file in
locustfiles/ with its objectives:

{scenarios}

With several cores one process conducts, and others bring the users:

    python loadtest/scenarios.py steady --master --expect-workers 2 --users 500
    python loadtest/scenarios.py steady --worker --master-host 127.0.0.1      (twice)

A worker starts neither backends nor gproxy; the master tells it where gproxy is.

Locust makes a few hundred requests per second and core of its own: it shows whether gproxy does right under a load
that has a shape, not how fast it is. compare.py takes rates and costs, with wrk.

Exit status: 0 all objectives kept, 1 one missed, or something broke, 2 something is not installed or the arguments
are wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from processes import BenchError, Child, MissingToolError, free_ports, running, wait_until
from proxies import INSTALLED

HERE = Path(__file__).resolve().parent
LOCUSTFILES = HERE / "locustfiles"
OBJECTIVES = ("max_errors", "p50", "p95", "p99")
BACKENDS = ("b1", "b2", "b3")
KILLED = "b2"  # by failover, after a third of the time; it comes back after two thirds
UP = "backend site/b2 is up"
DOWN = "backend site/b2 is down"
MASTER_PORT = 5557  # Locust's default
START_SECONDS = 30.0  # for Locust
NOTICE_SECONDS = 20.0  # for gproxy to see that a backend went, or came
STOP_SECONDS = 20  # for users to end what they do
WORKER_SECONDS = 60  # for the master's workers to come
SPAWN_SHARE = 1 / 6  # of the time, until all users are there
DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM")

Locust = subprocess.Popen[bytes]

CONFIG = """
load_balancer: {{request_head_timeout: 3, drain_timeout: 1}}
workers: {workers}
listeners:
  - name: web
    bind: 127.0.0.1:{web}
    mode: http
    upstream: site
    routes:
      - {{path: /chat/, upstream: rooms}}
  - name: raw
    bind: 127.0.0.1:{raw}
    upstream: echo
upstreams:
  site:
    health_check: {{interval: 500ms, fall: 2, rise: 1}}
    {site}
    backends: [{site_backends}]
  rooms:
    balance: {{hash: path}}
    backends: [{site_backends}]
  echo:
    balance: least_connections
    backends: [{echo_backends}]
"""


@dataclass(frozen=True)
class Scenario:
    """What it is, and how it is run unless the command line says otherwise."""

    about: str
    users: int = 50
    seconds: int = 30
    scheme: str = "http"  # or tcp, for the other listener
    site: str = ""  # more of the site's configuration
    kills: bool = False


SCENARIOS = {
    "steady": Scenario("steady HTTP"),
    "browser": Scenario("as browsers do, with large downloads and uploads", users=10, site="sticky: {cookie: site}"),
    "chat": Scenario("WebSocket chat in rooms"),
    "rawtcp": Scenario("sessions over TCP, messages of 1 byte to 256 KiB", scheme="tcp"),
    "slow": Scenario("slow clients beside others"),
    "spike": Scenario("ten times the users, at once, for a third of the time", users=200),
    "staircase": Scenario("more users step by step", users=100, seconds=60),
    "failover": Scenario("a backend is killed, and comes back", kills=True),
}


@dataclass(frozen=True)
class Site:
    """What runs: the backends, by name, and gproxy."""

    commands: dict[str, list[str]]
    backends: dict[str, Child]
    ports: dict[str, int]
    gproxy: Child
    directory: Path

    def address(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}"

    def kill(self, name: str) -> None:
        self.backends[name].process.kill()
        self.backends[name].process.wait(STOP_SECONDS)

    def revive(self, name: str) -> None:
        self.backends[name] = started(self.commands[name], self.directory / f"{name}-again.log")

    def log(self) -> str:
        return self.gproxy.log.read_text(errors="replace")


def started(command: Sequence[str], log: Path) -> Child:
    """It ends with us, however we end."""
    return Child([*DIES_WITH_US, *command], log, None, HERE.parent)


@contextlib.contextmanager
def serving(scenario: Scenario, workers: int) -> Iterator[Site]:
    """The backends and gproxy; BenchError when one of them does not start."""
    web, raw, *others = free_ports(2 + 2 * len(BACKENDS))
    https, echoes = others[: len(BACKENDS)], others[len(BACKENDS) :]
    with tempfile.TemporaryDirectory(prefix="gproxy-scenario-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        commands = {
            backend: [sys.executable, str(HERE / "backend.py"), backend, str(http), str(echo)]
            for backend, http, echo in zip(BACKENDS, https, echoes, strict=True)
        }
        backends = {backend: started(command, directory / f"{backend}.log") for backend, command in commands.items()}
        stack.callback(stop, backends)
        for child, port in zip(backends.values(), https, strict=True):
            child.wait_for(port)
        config = directory / "gproxy.yaml"
        sites = {"site_backends": named(https), "echo_backends": named(echoes)}
        config.write_text(CONFIG.format(web=web, raw=raw, workers=workers, site=scenario.site, **sites))
        command = [*INSTALLED, str(config)]
        gproxy = stack.enter_context(running(started(command, directory / "gproxy.log")))
        gproxy.wait_for(raw)
        gproxy.wait_for(web)
        yield Site(commands, backends, {"http": web, "tcp": raw}, gproxy, directory)


def stop(backends: dict[str, Child]) -> None:
    """Those that are there now: one may have come in the place of another."""
    for child in backends.values():
        child.stop()


def named(ports: Sequence[int]) -> str:
    pairs = zip(BACKENDS, ports, strict=True)
    return ", ".join(f'{{name: {name}, address: "127.0.0.1:{port}"}}' for name, port in pairs)


@contextlib.contextmanager
def locust(scenario: str, arguments: Sequence[str], marker: Path | None = None) -> Iterator[Locust]:
    """Locust, which makes the file `marker` when load begins. Asked to stop early, it still writes its report."""
    process = subprocess.Popen(
        [*DIES_WITH_US, sys.executable, "-m", "locust", "-f", str(LOCUSTFILES / f"{scenario}.py"),
         "--headless", "--only-summary", "--loglevel=WARNING", *arguments],
        stdin=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | ({"SCENARIO_STARTED": str(marker)} if marker else {}),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(2 * STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


def conduct(options: argparse.Namespace) -> int:
    """Everything but the users of other workers; the exit status."""
    scenario = SCENARIOS[options.scenario]
    with serving(scenario, options.gproxy_workers) as site:
        marker = site.directory / "started"
        with locust(options.scenario, locust_arguments(options, site.address(scenario.scheme)), marker) as process:
            if scenario.kills:
                fail_over(site, process, marker, options.seconds)
            status = process.wait()
        if "Traceback" in site.log():
            raise BenchError(f"gproxy's log has a traceback:\n{site.log()}")
    if Path(options.html).exists():
        print(f"Report: {options.html}")
    return status


def locust_arguments(options: argparse.Namespace, host: str) -> list[str]:
    arguments = [
        f"--host={host}", f"--users={options.users}", f"--spawn-rate={options.spawn_rate}",
        f"--run-time={options.seconds}", f"--html={options.html}", f"--stop-timeout={STOP_SECONDS}",
    ]  # fmt: skip
    for name in OBJECTIVES:
        if (value := getattr(options, name)) is not None:
            arguments.append(f"--{name.replace('_', '-')}={value}")
    if options.master:
        arguments += [
            "--master", f"--master-bind-host={options.master_host}", f"--master-bind-port={options.master_port}",
            f"--expect-workers={options.expect_workers}", f"--expect-workers-max-wait={WORKER_SECONDS}",
        ]  # fmt: skip
    return [*arguments, *options.more]


def fail_over(site: Site, process: Locust, marker: Path, seconds: int) -> None:
    """Kills a backend and starts it again under load; BenchError unless gproxy notices both."""

    def ended() -> bool:
        return process.poll() is not None

    def says(text: str, before: int) -> bool:
        return text in site.log()[before:]

    wait_until(lambda: ended() or marker.exists(), START_SECONDS + WORKER_SECONDS, "the load begins")
    start = time.monotonic()
    for share, act, text in ((1 / 3, site.kill, DOWN), (2 / 3, site.revive, UP)):
        wait_until(partial(due, start + share * seconds, ended), seconds, "the time to act")
        before = len(site.log())
        act(KILLED)
        # Not only while there is load: of a short run little is left, and a backend takes its time to start.
        took = wait_until(partial(says, text, before), NOTICE_SECONDS, f"{text!r} in gproxy's log")
        print(f"After {share * seconds:.1f} s: {act.__name__} {KILLED}. {took:.1f} s later: {text}", flush=True)


def due(moment: float, ended: Callable[[], bool]) -> bool:
    if ended():
        raise BenchError("Locust ended before its time")
    return time.monotonic() >= moment


def work(options: argparse.Namespace) -> int:
    """A worker: the users alone; the exit status."""
    arguments = ["--worker", f"--master-host={options.master_host}", f"--master-port={options.master_port}"]
    with locust(options.scenario, [*arguments, *options.more]) as process:
        return process.wait()


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def parse(argv: Sequence[str]) -> argparse.Namespace:
    ours, more = split(argv)
    summary, _, details = (__doc__ or "").partition("\n")
    width = max(map(len, SCENARIOS))
    table = "\n".join(f"    {name:{width}}  {each.about}" for name, each in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        description=summary,
        epilog=details.replace("{scenarios}", table),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", choices=SCENARIOS, metavar="SCENARIO")
    parser.add_argument("--users", type=positive, help="at most so many at a time")
    parser.add_argument(
        "--spawn-rate", type=float, help="users that come in a second (default: all in a sixth of the time)"
    )
    parser.add_argument("--seconds", type=positive)
    parser.add_argument("--html", metavar="FILE", help="Locust's report (default: locust-SCENARIO.html)")
    parser.add_argument("--gproxy-workers", type=positive, default=1, metavar="N")
    objectives = parser.add_argument_group("objectives, in the place of the scenario's own")
    objectives.add_argument("--max-errors", type=float, metavar="RATIO", help="errors to requests")
    for name in OBJECTIVES[1:]:
        objectives.add_argument(f"--{name}", type=float, metavar="MS", help=f"{name[1:]} %% are at least as fast")
    distributed = parser.add_argument_group("distributed")
    role = distributed.add_mutually_exclusive_group()
    role.add_argument("--master", action="store_true", help="the users are brought by workers")
    role.add_argument("--worker", action="store_true", help="bring users to a master")
    distributed.add_argument("--expect-workers", type=positive, default=1, metavar="N", help="the master waits for N")
    distributed.add_argument("--master-host", default="127.0.0.1", help="where the master listens (127.0.0.1)")
    distributed.add_argument("--master-port", type=positive, default=MASTER_PORT)
    return with_defaults(parser.parse_args(ours), more)


def split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Our arguments and Locust's."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def with_defaults(options: argparse.Namespace, more: Sequence[str]) -> argparse.Namespace:
    scenario = SCENARIOS[options.scenario]
    options.users = options.users or scenario.users
    options.seconds = options.seconds or scenario.seconds
    options.spawn_rate = options.spawn_rate or options.users / (SPAWN_SHARE * options.seconds)
    options.html = options.html or f"locust-{options.scenario}.html"
    options.more = more
    return options


def check_installed() -> None:
    missing = [name for name in ("locust", "aiohttp", "websocket") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingToolError(f"no {', '.join(missing)} here: {sys.executable} -m pip install -e '.[load]'")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(sys.argv[1:] if argv is None else argv)
    # Through every finally, as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_installed()
        return work(options) if options.worker else conduct(options)
    except KeyboardInterrupt:
        return 130
    except MissingToolError as error:
        print(f"scenarios.py: {error}", file=sys.stderr)
        return 2
    except BenchError as error:
        print(f"scenarios.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
