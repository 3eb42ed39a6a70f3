"""`gproxy ctl`: the table of its commands, and from a command line to what is printed.

arguments ─▶ ACTIONS ─▶ its function asks the API ─▶ Said ─▶ a text for people, or its document for scripts
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gproxy.arguments import ArgumentParser
from gproxy.ctl import actions, target
from gproxy.ctl.actions import Said
from gproxy.ctl.client import Client, Refused
from gproxy.errors import AdminError


class _Argument(NamedTuple):
    """As argparse's add_argument takes it."""

    flags: tuple[str, ...]
    named: dict[str, Any]


def _argument(*flags: str, **named: Any) -> _Argument:
    return _Argument(flags, named)


@dataclass(frozen=True, slots=True)
class Action:
    """One command."""

    run: Callable[[Client, argparse.Namespace], Said]
    summary: str
    arguments: tuple[_Argument, ...] = ()


class BackendName(NamedTuple):
    upstream: str
    backend: str

    def __str__(self) -> str:
        return f"{self.upstream}/{self.backend}"


def backend_name(text: str) -> BackendName:
    """UPSTREAM/BACKEND. A backend may be called as its address is: it may have slashes."""
    upstream, _, backend = text.partition("/")
    if not upstream or not backend:
        raise argparse.ArgumentTypeError(f"{text!r} is not UPSTREAM/BACKEND, such as app/b1")
    return BackendName(upstream, backend)


def duration(text: str) -> float:
    """Seconds, as in the configuration."""
    from gproxy.config import scalars  # late: it takes longer than all the rest

    try:
        return scalars.duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def weight(text: str) -> int | None:
    """None is the configured one."""
    if text == "default":
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor default")


_BACKEND: Final = _argument("backend", metavar="UPSTREAM/BACKEND", type=backend_name)


def _waiting(what: str, timeout: str) -> tuple[_Argument, _Argument]:
    return (
        _argument("--wait", action="store_true", help=f"until {what}"),
        _argument(
            "--timeout", metavar="DURATION", type=duration, default=timeout,
            help=f"for --wait: how long at most, such as 30s (default {timeout})",
        ),
    )  # fmt: skip


_IDLE: Final = _waiting("it has no connection in use any more", "5m")

ACTIONS: Final = {
    "status": Action(
        actions.status, "the process, its workers, listeners, upstreams and backends; or one backend",
        (_argument("backend", nargs="?", metavar="UPSTREAM/BACKEND", type=backend_name),),
    ),
    "drain": Action(
        actions.drain, "a backend keeps its sessions and gets no new ones",
        (_BACKEND, *_IDLE),
    ),
    "ready": Action(actions.ready, "a backend that was drained or in maintenance serves again", (_BACKEND,)),
    "maint": Action(
        actions.maint, "as drain; it says that the server itself is out of service", (_BACKEND, *_IDLE)
    ),
    "weight": Action(
        actions.weight, "a backend's share of the load",
        (_BACKEND, _argument("weight", metavar="WEIGHT", type=weight, help="1 to 1000; default: as configured")),
    ),
    "eject": Action(
        actions.eject, "leave a backend out for some time",
        (_BACKEND, _argument("--for", dest="seconds", metavar="DURATION", type=duration, default="60s",
                             help="how long, up to 1d (default 60s)")),
    ),
    "readmit": Action(actions.readmit, "end a backend's ejection", (_BACKEND,)),
    "empty-pool": Action(actions.empty_pool, "close a backend's idle connections", (_BACKEND,)),
    "log": Action(
        actions.log, "the level of the log, or another one until the next reload",
        (_argument("level", nargs="?", metavar="LEVEL", choices=("debug", "info", "warning", "error"),
                   help="debug, info, warning or error"),),
    ),
    "reload": Action(
        actions.reload, "read the configuration anew, as SIGHUP does",
        _waiting("it is in effect, or has failed", "2m"),
    ),
    "decisions": Action(
        actions.decisions, "the last choices of backends, and who was left out and why",
        (_argument("--last", metavar="N", type=int, default=20, help="how many, 1 to 100 (default 20)"),),
    ),
    "processes": Action(actions.processes, "what the steward and each worker hold: memory, open files, sessions"),
    "health": Action(
        actions.health, "whether it can serve; the exit status tells it, too",
        (_argument("upstream", nargs="?", metavar="UPSTREAM", help="can this one (default: any that listeners name)"),),
    ),
    "metrics": Action(actions.metrics, "all counters, as Prometheus scrapes them"),
    "openapi": Action(actions.openapi, "the description of the API, for programs"),
}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Do one command; the exit status. GproxyError, as cli.py prints it."""
    options = parser().parse_args(arguments)
    client = target.client_of(options)
    try:
        said = ACTIONS[options.command].run(client, options)
    except Refused as refused:
        raise AdminError(
            f"{refused}{_suggestion(client, options)}" if refused.status == 404 else str(refused)
        ) from None
    write(json.dumps(said.document, indent=2) if options.json else said.text)
    return said.status


def write(text: str) -> None:
    """To standard output."""
    with output():
        print(text, flush=True)


@contextmanager
def output() -> Iterator[None]:
    """AdminError where standard output takes nothing."""
    try:
        yield
    except OSError as error:
        raise AdminError(f"standard output: {error.strerror}") from None


def _suggestion(client: Client, options: argparse.Namespace) -> str:
    """For a backend or an upstream that is not known."""
    from gproxy.config.scalars import near  # late, as above

    upstreams = client.get("/v1/state")["upstreams"]
    if backend := getattr(options, "backend", None):
        return near(str(backend), [f"{u['name']}/{b['name']}" for u in upstreams for b in u["backends"]])
    return near(getattr(options, "upstream", None) or "", [upstream["name"] for upstream in upstreams])


_EPILOG = """\
exit status: 0 done; 1 refused, failed, or not within the time; 2 a wrong command line or configuration
"""


def parser() -> argparse.ArgumentParser:
    found = ArgumentParser("gproxy ctl", description="See and steer a gproxy that runs.", epilog=_EPILOG)
    commands = found.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, action in ACTIONS.items():
        command = commands.add_parser(name, help=action.summary, description=_sentence(action.summary), epilog=_EPILOG)
        for flags, named in action.arguments:
            command.add_argument(*flags, **named)
        _add_common(command, argparse.SUPPRESS)  # what stands before the command's name is not undone
    _add_common(found, None)
    return found


def _add_common(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument("--json", action="store_true", default=default, help="the API's document, for scripts")
    target.add_options(parser, default)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
