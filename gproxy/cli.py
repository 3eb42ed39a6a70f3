"""The command line: the balancer, and the subcommands beside it.

Exit statuses: 0 asked to stop, or done; 1 a defect of gproxy's, or a gproxy that runs does not do what it is asked;
2 a wrong command line or configuration, or an address that can't be had.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from gproxy import __version__
from gproxy.arguments import ArgumentParser
from gproxy.build import build
from gproxy.errors import AdminError, ConfigError, GproxyError, Problem, StartFailed

if TYPE_CHECKING:
    from gproxy.core.settings import Config

FAILED, USAGE_ERROR = 1, 2


class Command(NamedTuple):
    """`run` imports what it needs when it is called: commands start fast, and without what others need."""

    run: Callable[[Sequence[str]], int]
    summary: str
    serves: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run gproxy; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = SUBCOMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        command = Command(_balancer, "", serves=True)
    else:
        del arguments[0]
    _prepare_for_signals(serves=command.serves)
    try:
        try:
            return command.run(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except StartFailed as error:
        print(error, file=sys.stderr)
        return error.status
    except GproxyError as error:
        print(str(error) if isinstance(error, ConfigError) else f"gproxy: {error}", file=sys.stderr)
        return FAILED if isinstance(error, AdminError) else USAGE_ERROR
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        print(f"gproxy: standard output: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries to write once more as it exits
        return FAILED


def _prepare_for_signals(*, serves: bool) -> None:
    if not serves:  # as a program that a shell runs: no traceback at Ctrl-C, nor in `gproxy ctl ... | head`
        for number in (signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        return
    # Before there is anything to drain. No KeyboardInterrupt: one that comes during an import may get lost there.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # there is nothing to do for them yet
        signal.signal(number, signal.SIG_IGN)


def _balancer(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(
        "gproxy", description=_DESCRIPTION, epilog=_epilog(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML or JSON file, such as etc/gproxy.yaml")
    parser.add_argument("-t", "--test", action="store_true", help="check the configuration and exit")
    parser.add_argument("--version", action="version", version=f"gproxy {__version__}, {build()}")
    options = parser.parse_args(arguments)
    from gproxy import config
    from gproxy.config.scalars import near

    meant = near(options.config, SUBCOMMANDS)
    if meant and not os.path.exists(options.config):
        parser.error(f"{options.config!r} is neither a file nor a command{meant}")
    settings = config.load(options.config)
    with contextlib.suppress(OSError):  # a directory that was removed holds no policy
        sys.path.append(os.getcwd())  # behind everything installed: it must not shadow a module of ours
    if options.test:
        return _check(options.config, settings)
    from gproxy.supervisor import Supervisor  # late: checking a file need not start gevent

    return Supervisor(settings, lambda: _load_again(options.config)).run()


def _load_again(path: str) -> Config:
    """For a reload, which must not wait for whoever writes into a pipe."""
    from gproxy import config

    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(path, [Problem(0, "", "is no regular file, and can't be read a second time")])
    return config.load(path)


def _check(path: str, settings: Config) -> int:
    from gproxy.worker import load_choice

    for upstream in settings.upstreams:
        if upstream.balance.kind == "python":
            load_choice(upstream)
    for warning in settings.warnings:
        print(f"{warning} (a warning)", file=sys.stderr)
    print(f"{path}: the configuration is good")
    return 0


def _demo(arguments: Sequence[str]) -> int:
    parser = ArgumentParser("gproxy demo", description="Three origins and a balancer in front of them.")
    parser.add_argument("--port", type=_port, default=9000, help="the balancer's port (default 9000, 0: any)")
    parser.add_argument(
        "--origin-port", type=_port, default=9100, help="the first origin's port (default 9100, 0: any)"
    )
    parser.add_argument("--admin-port", type=_port, default=9901, help="the dashboard's (default 9901, 0: any)")
    parser.add_argument(
        "--statsd-port", type=_port, help="report to the StatsD on this port of 127.0.0.1 (default: none)"
    )
    options = parser.parse_args(arguments)
    from gproxy import demo

    return demo.run(options.port, options.origin_port, options.admin_port, options.statsd_port)


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return port


def _ctl(arguments: Sequence[str]) -> int:
    from gproxy.ctl import program

    return program.main(arguments)


def _explain(arguments: Sequence[str]) -> int:
    from gproxy.ctl import explain

    return explain.main(arguments)


def _top(arguments: Sequence[str]) -> int:
    from gproxy.ctl import top

    return top.main(arguments)


SUBCOMMANDS: Final = {
    "demo": Command(_demo, "three origins and a balancer in front of them; needs no configuration", serves=True),
    "ctl": Command(_ctl, "see and steer a gproxy that runs, by its admin API"),
    "explain": Command(_explain, "what became of a request, or of a client's last ones, and why"),
    "top": Command(_top, "watch a gproxy that runs: traffic, durations, backends"),
}

_DESCRIPTION = "A TCP and HTTP/1.1 load balancer: health checks, connection pooling, StatsD metrics, on gevent."


def _epilog() -> str:
    lines = (f"  gproxy {name:<7} {command.summary}" for name, command in SUBCOMMANDS.items())
    return "\n".join(["subcommands, each with a --help of its own:", *lines])
