"""What stands behind the proxies: nginx as the http origin, a socket that accepts and holds."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from processes import BenchError, Child, free_port, free_ports, running

SMALL_BODY = "x" * 100
BULK_BYTES = 64 << 20
BULK_FILE = "bulk"  # in the origin's directory
COUNTED_LOG = "origin-counted.log"
BACKENDS = 3

ORIGIN_CONF = """
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
pid {directory}/origin.pid;
error_log {directory}/origin-error.log error;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    log_format outcome "$status $request_completion";
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    sendfile on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    default_type text/plain;
    server {{
        {listens}
        location = /small {{ return 200 "{body}"; }}
        location = /traced {{ add_header X-Trace $http_x_trace; return 200 "{body}"; }}
        location = /counted {{ access_log {directory}/{counted} outcome; return 200 "{body}"; }}
        location = /port {{ return 200 "$server_port"; }}
        location = /connections {{ return 200 "$connection"; }}
        location = /bulk {{ root {directory}; }}
    }}
}}
"""


@dataclass(frozen=True)
class Origins:
    """The ports of the http origin: one worker behind all of them."""

    ports: tuple[int, ...]


def connections_accepted(port: int) -> int:
    """How many connections the origin has accepted so far on all its ports, this one included."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/connections", timeout=10) as answer:
            return int(answer.read())
    except OSError as error:
        raise BenchError(f"the origin does not answer: {error}") from error


def answered_in_full(directory: Path) -> int:
    """How many requests for /counted the origin has answered with 200 to the last byte so far.

    It writes a line for each at once: the number is exact, and late by nothing.
    """
    try:
        with (directory / COUNTED_LOG).open("rb") as file:
            return sum(1 for line in file if line == b"200 OK\n")
    except OSError as error:
        raise BenchError(f"the origin counts nothing: {error}") from error


def nginx_user() -> str:
    """Without it nginx's workers, when root starts them, could not read our directory."""
    return "user root;" if os.geteuid() == 0 else ""


def write_bulk_file(path: Path) -> None:
    block = os.urandom(1 << 20)  # random, so that no page is a hole or a shared zero page
    with path.open("wb") as file:
        for _ in range(BULK_BYTES // len(block)):
            file.write(block)


@contextlib.contextmanager
def http_origin(directory: Path, core: int | None, files: int, backends: int = BACKENDS) -> Iterator[Origins]:
    """nginx with as many ports, and on each of them:

    /small        a small response
    /traced       one that repeats X-Trace
    /counted      a small response, for answered_in_full()
    /port         the number of the port that was asked
    /connections  for connections_accepted()
    /bulk         a file of 64 MiB
    """
    write_bulk_file(directory / BULK_FILE)
    ports = free_ports(backends)
    listens = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
    config = directory / "origin.conf"
    config.write_text(
        ORIGIN_CONF.format(
            user=nginx_user(), files=files, directory=directory, listens=listens, body=SMALL_BODY, counted=COUNTED_LOG
        )
    )
    command = ["nginx", "-p", str(directory), "-e", str(directory / "origin-error.log"), "-c", str(config)]
    with running(Child(command, directory / "origin.log", core)) as child:
        child.wait_for(ports[0])
        yield Origins(ports)


class Holder:
    """Accepts connections when told to, and keeps them without a byte."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", free_port()), backlog=4096)
        self._listener.settimeout(10)
        self._held: list[socket.socket] = []

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def accept(self, count: int) -> None:
        try:
            for _ in range(count):
                self._held.append(self._listener.accept()[0])
        except OSError as error:
            raise BenchError(f"the proxy opened {len(self._held)} backend connections, then: {error}") from error

    def close(self) -> None:
        for held in [self._listener, *self._held]:
            held.close()
        self._held.clear()


def nginx_build() -> str:
    """What `nginx -V` says, which goes to standard error."""
    return subprocess.run(["nginx", "-V"], capture_output=True, text=True, timeout=10, check=False).stderr
