"""`gproxy demo` with its metrics in Graphite: StatsD, carbon, graphite-web, some traffic, and a page of graphs.

    sh etc/bootstrap.sh graphite
    .venv/bin/python loadtest/graphite_demo.py
    .venv/bin/python loadtest/graphite_demo.py --port 0 --origin-port 0 --admin-port 0 --page-port 0 --rate 100

Everything listens on 127.0.0.1 and is gone after Ctrl-C.

Exit status: 0 asked to stop, 1 something did not start or ended by itself, 2 something is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from graphite_chain import REPOSITORY, started
from graphite_graphs import page
from processes import BenchError, MissingToolError

FLUSH_SECONDS = 2  # StatsD's interval and Graphite's finest retention: short, for who looks on
MINUTES = 5  # that the graphs show
CLIENTS = 4
FRESH_EVERY = 8  # requests: then on a new connection
PREFIX = "gproxy"  # the default of statsd.prefix

_HELP = """\

  {url}  has the graphs: a minute shows something, and so does a kill
  {clients} clients ask {rate:g} times a second. Pages and metrics are gone after Ctrl-C.
"""


def main() -> int:
    options = _arguments()
    # SIGINT too: what a script starts with & is deaf to it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="gproxy-graphite-") as directory:
            print("starting StatsD, carbon and graphite-web ...", flush=True)
            return _demo(Path(directory), options)
    except KeyboardInterrupt:
        return 0
    except (BenchError, MissingToolError, OSError) as error:
        print(f"graphite_demo.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, MissingToolError) else 1


def _demo(directory: Path, options: argparse.Namespace) -> int:
    with (
        started(directory, FLUSH_SECONDS) as chain,
        _page_served(options.page_port, page(chain.url, PREFIX, MINUTES, FLUSH_SECONDS)) as url,
        _balancer(options, chain.ports.statsd) as (process, port),
    ):
        print(_HELP.format(url=url, clients=CLIENTS, rate=options.rate), flush=True)
        for _ in range(CLIENTS):
            threading.Thread(target=_ask, args=(port, options.rate / CLIENTS), daemon=True).start()
        return process.wait()


@contextlib.contextmanager
def _balancer(options: argparse.Namespace, statsd_port: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`gproxy demo`, what it says to try printed, and its port."""
    ports = [f"--port={options.port}", f"--origin-port={options.origin_port}", f"--admin-port={options.admin_port}"]
    ports.append(f"--statsd-port={statsd_port}")
    # A session of its own: Ctrl-C is for us, and it ends before StatsD does. Should we be killed, it ends too.
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "gproxy", "demo", *ports],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process, _greeting(process)
    finally:
        process.terminate()
        process.wait()


def _greeting(process: subprocess.Popen[str]) -> int:
    """Pass on what it says to try, but not its access log; the port."""
    assert process.stdout is not None
    port = 0
    for line in process.stdout:
        print(line, end="", flush=True)
        if found := re.search(r"on http://127\.0\.0\.1:(\d+)/", line):
            port = int(found[1])
        if "Ctrl-C" in line:
            threading.Thread(target=deque, args=(process.stdout, 0), daemon=True).start()
            return port
    raise BenchError("gproxy demo did not start: see above")


@contextlib.contextmanager
def _page_served(port: int, text: str) -> Iterator[str]:
    """The page's URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Nobody needs it."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _ask(port: int, rate: float) -> None:
    """Ask for ever; what fails, the graphs show."""
    number = 0
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while True:
        number += 1
        with contextlib.suppress(OSError, http.client.HTTPException):
            client.request("GET", f"/{number}")
            client.getresponse().read()
        if number % FRESH_EVERY == 0:
            client.close()
        time.sleep(1 / rate)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="gproxy demo with its metrics in Graphite")
    parser.add_argument("--port", type=int, default=9000, help="the balancer's (default 9000, 0: any)")
    parser.add_argument("--origin-port", type=int, default=9100, help="the first origin's (default 9100, 0: any)")
    parser.add_argument("--admin-port", type=int, default=9901, help="the dashboard's (default 9901, 0: any)")
    parser.add_argument("--page-port", type=int, default=9080, help="of the graphs (default 9080, 0: any)")
    parser.add_argument("--rate", type=float, default=20, help="requests per second (default 20)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
