"""`gproxy demo`: three origins, each a process of its own that can be killed, and the balancer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from gproxy import config
from gproxy.errors import BindError
from gproxy.supervisor import Supervisor
from gproxy.worker import Worker

NAMES = ("b1", "b2", "b3")

_CONFIG = """
load_balancer: {{backend_check_interval: 1, backend_failure_threshold: 2, drain_timeout: 1}}
listeners:
  - {{name: demo, bind: "127.0.0.1:{port}", upstream: origins, max_connections: 1000}}
upstreams:
  origins:
    backends:
{backends}
log: {{access: "-"}}
"""

_HELP = """\
gproxy demo: a balancer on http://{address}/ in front of three origins.

  b1 is process {pids[0]}, b2 is process {pids[1]}, b3 is process {pids[2]}

  {curl}  says which origin answered: ask a few times
  {kill}  ends b2: ask again, and b1 and b3 answer
  {stop}  stops everything
"""


def run(port: int, origin_port: int) -> int:
    """Start the origins and serve until a signal comes; the exit status."""
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(_origin(name, origin_port + i if origin_port else 0)) for i, name in
                   enumerate(NAMES)]  # fmt: skip
        backends = "\n".join(f'      - {{name: {n}, address: "127.0.0.1:{p}"}}' for n, _, p in origins)
        settings = config.parse(_CONFIG.format(port=port, backends=backends), "demo")
        pids = [process.pid for _, process, _ in origins]

        def greet(worker: Worker) -> None:
            host, actual_port = worker.address("demo")
            address = f"{host}:{actual_port}"
            commands = (f"curl http://{address}/", f"kill {pids[1]}", "Ctrl-C")
            curl, kill, stop = (command.ljust(len(commands[0])) for command in commands)
            print(_HELP.format(address=address, pids=pids, curl=curl, kill=kill, stop=stop), flush=True)

        return Supervisor(settings, greet).run()


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
            raise BindError(f"origin {name}: {said or 'it did not start'}")
        yield name, process, int(said)
    finally:
        process.terminate()
        process.communicate()


def _serve_origin(name: str, port: int) -> None:
    """The child: an HTTP server that says who it is."""
    import gevent
    from gevent.os import tp_read
    from gevent.pywsgi import WSGIServer

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = f"{name} answered: {environ['REQUEST_METHOD']} {environ['PATH_INFO']}, from process {os.getpid()}\n"
        # Close, because a tcp balancer chooses once per connection, and this is to show its choices.
        start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
        return [body.encode()]

    server = WSGIServer(("127.0.0.1", port), application, log=None)
    try:
        server.start()
    except OSError as error:
        print(f"cannot listen on 127.0.0.1:{port}: {os.strerror(error.errno or 0).lower()}", flush=True)
        return
    with contextlib.suppress(BrokenPipeError):  # who started us is gone: the end of our input says so, too
        os.write(sys.stdout.fileno(), b"%d\n" % server.server_port)
    gevent.signal_handler(signal.SIGTERM, server.stop)
    gevent.spawn(lambda: (tp_read(0, 1), server.stop()))
    server.serve_forever()


if __name__ == "__main__":
    _serve_origin(sys.argv[1], int(sys.argv[2]))
