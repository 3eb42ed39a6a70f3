"""`gproxy demo`: three origins, each a process of its own that can be killed, and the balancer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from itertools import count
from string import Template
from typing import Any

from gproxy import config
from gproxy.errors import BindError
from gproxy.supervisor import Supervisor

NAMES = ("b1", "b2", "b3")

_CONFIG = """
load_balancer: {{backend_check_interval: 1, backend_failure_threshold: 2, drain_timeout: 1, metrics_interval: 1}}
listeners:
  - {{name: demo, bind: "127.0.0.1:{port}", mode: http, upstream: origins, max_connections: 1000}}
upstreams:
  origins:
    backends:
{backends}
log: {{access: "-"}}
admin: {{bind: "127.0.0.1:{admin_port}"}}
"""
_STATSD = "statsd: {{port: {port}}}\n"

_HELP = """\
gproxy demo: a balancer on http://{address}/ in front of three origins.

  b1 is process {pids[0]}, b2 is process {pids[1]}, b3 is process {pids[2]}

  {page}  is the dashboard: open it in a browser
  {curl}  says which origin answered: ask a few times, or open it in a browser
  {kill}  ends b2: ask again, and b1 and b3 answer
  {stop}  stops everything
"""


def run(port: int, origin_port: int, admin_port: int, statsd_port: int | None = None) -> int:
    """Start the origins and serve until a signal comes; the exit status. StatsD is told if it has a port."""
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(_origin(name, origin_port + i if origin_port else 0)) for i, name in
                   enumerate(NAMES)]  # fmt: skip
        backends = "\n".join(f'      - {{name: {n}, address: "127.0.0.1:{p}"}}' for n, _, p in origins)
        text = _CONFIG.format(port=port, admin_port=admin_port, backends=backends)
        settings = config.parse(text + _STATSD.format(port=statsd_port) if statsd_port else text, "demo")
        pids = [process.pid for _, process, _ in origins]

        def greet(addresses: dict[str, Any], admin: Any) -> None:
            host, actual_port = addresses["demo"]
            address = f"{host}:{actual_port}"
            commands = (f"http://127.0.0.1:{admin[1]}/", f"curl http://{address}/", f"kill {pids[1]}", "Ctrl-C")
            page, curl, kill, stop = (command.ljust(len(commands[1])) for command in commands)
            print(_HELP.format(address=address, pids=pids, page=page, curl=curl, kill=kill, stop=stop), flush=True)

        return Supervisor(settings, on_ready=greet).run()


@contextlib.contextmanager
def _origin(name: str, port: int) -> Iterator[tuple[str, subprocess.Popen[str], int]]:
    """One origin as a child; it ends with us, however we end, because it reads our end of its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gproxy.demo", name, str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if not said.isdigit():
            raise BindError(f"origin {name}: {said or 'it did not start'}; see gproxy demo --help for other ports")
        yield name, process, int(said)
    finally:
        process.terminate()
        process.communicate()


# --- an origin ------------------------------------------------------------------------

_COLOURS = {"b1": "#1d4ed8", "b2": "#15803d", "b3": "#b45309"}
_ADDED = frozenset(("via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"))  # by gproxy

# Its icon is in the page: a request for it would take a turn of the round that one wants to see.
_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$name answered - gproxy demo</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'%3E\
%3Ccircle cx='.5' cy='.5' r='.5' fill='$icon'/%3E%3C/svg%3E">
<style>
  :root { color-scheme: light dark; --own: $colour }
  body { font: 16px/1.5 system-ui, sans-serif; margin: 0 }
  header { background: var(--own); color: #fff }
  header, main { padding: 1.25rem max(1rem, calc(50vw - 24rem)) }
  h1 { font-size: 2.5rem; line-height: 1.2; margin: 0 }
  h2 { border-left: .3rem solid var(--own); font-size: 1.1rem; margin: 1.5rem 0 .5rem; padding-left: .5rem }
  p { margin: .25rem 0 }
  nav { align-items: center; display: flex; gap: .5rem; margin-top: 1rem }
  nav span { border: 2px solid; border-radius: 1rem; padding: 0 .8rem }
  nav .now, nav a { background: #fff; border-color: #fff; color: var(--own); font-weight: 700 }
  nav a { border-radius: .4rem; margin-left: auto; padding: .35rem 1rem; text-decoration: none }
  nav a:focus-visible { outline: 3px solid #fff; outline-offset: 2px }
  code, td { font: .9rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere }
  table { border-collapse: collapse; width: 100% }
  tr { border-bottom: 1px solid #8884 }
  th, td { padding: .35rem .5rem; text-align: left; vertical-align: baseline }
  th { font-weight: 500; width: 13.5rem }
  @media (width < 36rem) { th, td { display: block; width: auto } th { padding-bottom: 0 } }
</style>
<header>
  <h1>$name answered</h1>
  <p><code>$method $target</code></p>
  <p>request number $number of process $pid; its id is <code>$request_id</code></p>
  <nav>$origins<a href="">Ask again</a></nav>
</header>
<main>
  <p><code>kill $pid</code> ends $name: ask again, and the others answer.</p>
  <h2>What gproxy added for $name</h2>
  <table>$added</table>
  <h2>What the browser sent</h2>
  <table>$sent</table>
</main>
</html>
""")


def _page(name: str, number: int, environ: dict[str, Any]) -> str:
    """What a browser shows."""
    fields: list[tuple[str, str]] = environ["demo.fields"]
    return _PAGE.substitute(
        name=name,
        number=number,
        pid=os.getpid(),
        colour=_COLOURS[name],
        icon=_COLOURS[name].replace("#", "%23"),
        origins="".join(f"<span{' class=now' if each == name else ''}>{each}</span>" for each in NAMES),
        method=escape(environ["REQUEST_METHOD"]),
        target=escape(environ["demo.target"]),
        request_id=escape(environ.get("HTTP_X_REQUEST_ID", "unknown")),
        added=_rows([field for field in fields if field[0].lower() in _ADDED]),
        sent=_rows([field for field in fields if field[0].lower() not in _ADDED]),
    )


def _rows(fields: list[tuple[str, str]]) -> str:
    return "".join(f"<tr><th>{escape(name)}<td>{escape(value)}\n" for name, value in fields)


def _serve_origin(name: str, port: int) -> None:
    """The child: an HTTP server that says who it is."""
    import gevent
    from gevent.os import tp_read
    from gevent.pywsgi import WSGIHandler, WSGIServer

    class Handler(WSGIHandler):  # type: ignore[misc]  # gevent has no types
        def get_environ(self) -> dict[str, Any]:
            """With the request as it came: WSGI has names and target in a form of its own."""
            environ: dict[str, Any] = super().get_environ()
            return environ | {"demo.target": self.path, "demo.fields": self.headers.items()}

    numbers = count(1)

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        method, number = environ["REQUEST_METHOD"], next(numbers)
        kind = "html" if "text/html" in environ.get("HTTP_ACCEPT", "") else "plain"
        said = f"{name} answered: {method} {environ['demo.target']}, from process {os.getpid()}\n"
        body = (_page(name, number, environ) if kind == "html" else said).encode()
        fields = [("Content-Type", f"text/{kind}; charset=utf-8"), ("Content-Length", str(len(body))),
                  ("Vary", "Accept"), ("Cache-Control", "no-store")]  # fmt: skip
        start_response("200 OK", fields)
        return [] if method == "HEAD" else [body]

    server = WSGIServer(("127.0.0.1", port), application, log=None, handler_class=Handler)
    try:
        server.start()
    except OSError as error:
        print(f"cannot listen on 127.0.0.1:{port}: {os.strerror(error.errno or 0).lower()}", flush=True)
        return
    # A head and a body sent apart would wait for one another. What is accepted inherits it.
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(BrokenPipeError):  # who started us is gone: the end of our input says so, too
        os.write(sys.stdout.fileno(), b"%d\n" % server.server_port)
    gevent.signal_handler(signal.SIGTERM, server.stop)
    gevent.spawn(lambda: (tp_read(0, 1), server.stop()))
    server.serve_forever()


if __name__ == "__main__":
    _serve_origin(sys.argv[1], int(sys.argv[2]))
