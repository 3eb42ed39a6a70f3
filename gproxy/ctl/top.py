"""`gproxy top`: a view of a gproxy that runs, anew each second, in a terminal; or once, for pipes.

    the API ─▶ looks (rates.py) ─▶ View ─▶ tables (view.py) ─▶ the terminal ◀─ keys (keys.py)

A gproxy that goes away and comes back is waited for. It is not asked again before the last answer has come.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.live import Live

from gproxy.arguments import ArgumentParser
from gproxy.ctl import target, view
from gproxy.ctl.client import Client, Refused, Unreachable
from gproxy.ctl.keys import Keys
from gproxy.ctl.program import duration, output
from gproxy.ctl.rates import Look, View, view_of
from gproxy.errors import GproxyError

_WINDOW: Final = 10.0  # seconds of looks that are kept
_PATIENCE: Final = 3.0  # seconds for an answer: keys are not heard meanwhile


class Watched:
    """The looks at one gproxy."""

    def __init__(self, client: Client):
        self._client = client
        client.timeout = _PATIENCE
        self.looks: deque[Look] = deque()

    def look(self) -> None:
        """Once more. AdminError where nobody answers, or only with a no."""
        state = self._client.get("/v1/state")
        now = time.monotonic()
        self.looks.append(Look(now, state))
        while len(self.looks) > 2 and self.looks[1].at < now - _WINDOW:
            self.looks.popleft()

    def view(self) -> View | None:
        return view_of(self.looks) if self.looks else None


def main(arguments: Sequence[str]) -> int:
    """Watch until somebody has seen enough; the exit status."""
    options = _parser().parse_args(arguments)
    client = target.client_of(options)
    console = Console(highlight=False, markup=False, emoji=False)
    if options.once:
        return _once(client, console, options.interval)
    if not console.is_terminal or console.is_dumb_terminal or not sys.stdin.isatty():
        raise GproxyError("top needs a terminal; --once prints one view for a pipe or a file")
    return _live(client, console, options.interval)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        "gproxy top",
        description="A live view of a gproxy that runs: what it serves, and how its backends are.",
        epilog="keys: q quits; " + "; ".join(f"{sort.key} sorts by {sort.name}" for sort in view.SORTS)
        + "; space turns to the next page of backends",
    )  # fmt: skip
    parser.add_argument(
        "--interval", metavar="DURATION", type=duration, default="1s", help="between two looks (default 1s)"
    )
    parser.add_argument("--once", action="store_true", help="print one view, of two looks, and exit")
    target.add_options(parser)
    return parser


def _once(client: Client, console: Console, interval: float) -> int:
    watched = Watched(client)
    watched.look()
    time.sleep(interval)
    watched.look()
    screen = view.Screen(console.width)
    with output():
        console.print(view.render(watched.view(), screen, str(client.address)))
    return 0


def _live(client: Client, console: Console, interval: float) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the terminal is to be as it was
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    watched, screen = Watched(client), view.Screen()
    try:
        with Keys(sys.stdin.fileno()) as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            signal.signal(signal.SIGTSTP, lambda *_: _suspend(live, keys))
            while True:
                _look(watched, screen)
                due = time.monotonic() + interval
                pressed: str | None = ""
                while pressed is not None and (left := due - time.monotonic()) > 0:
                    screen.width, screen.height = os.get_terminal_size(console.file.fileno())
                    live.update(view.render(watched.view(), screen, str(client.address)), refresh=True)
                    pressed = keys.wait(left)
                    if not all(_obey(screen, key) for key in pressed or ""):
                        return 0
    except (KeyboardInterrupt, EOFError):
        return 0


def _suspend(live: Live, keys: Keys) -> None:
    """Ctrl-Z: the shell gets its terminal, and we get ours again when it lets us go on."""
    live.stop()
    keys.end()
    os.kill(os.getpid(), signal.SIGSTOP)
    keys.begin()
    live.start()


def _look(watched: Watched, screen: view.Screen) -> None:
    try:
        watched.look()
        screen.trouble = ""
    except Unreachable as error:
        screen.trouble = f"{error}; trying again"
    except Refused as error:
        if not watched.looks:
            raise
        screen.trouble = f"{error}; trying again"


def _obey(screen: view.Screen, pressed: str) -> bool:
    """A key; False where it is the one to leave by."""
    if pressed in ("q", "Q"):
        return False
    if pressed == " ":
        screen.page += 1
    for sort in view.SORTS:
        if pressed == sort.key:
            screen.sort, screen.page = sort, 0
    return True
