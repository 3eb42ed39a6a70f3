"""The three proxies in tcp mode, each configured alike and started fresh for every measurement.

None of them checks its backends, writes an access log or ends an idle session; each
has one worker, three backends (one for idle sessions) and round robin.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from origins import nginx_build, nginx_user
from processes import Child, MissingToolError, free_port, running

REPOSITORY = Path(__file__).resolve().parent.parent
SETTLE_SECONDS = 0.2  # what a proxy still does after its port accepts

HAPROXY_CONF = """
global
    nbthread 1
    maxconn {connections}
    {tune}
defaults
    mode tcp
    no log
    balance roundrobin
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    {splice}
listen bench
    bind 127.0.0.1:{port}
    {backends}
"""

NGINX_CONF = """
{load_module}
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log error;
events {{ worker_connections 20000; }}
stream {{
    access_log off;
    upstream origin {{
        {backends}
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_connect_timeout 5s;
        proxy_timeout 600s;
        proxy_pass origin;
    }}
}}
"""

GPROXY_CONF = """
load_balancer:
  connection_idle_timeout: 600
  stall_timeout: 600
  drain_timeout: 1
workers: 1
listeners:
  - name: bench
    bind: 127.0.0.1:{port}
    mode: tcp
    upstream: origin
    max_connections: {connections}
upstreams:
  origin:
    balance: round_robin
    health_check: {{type: none}}
    backends: [{backends}]
log: {{level: warning, access: "off"}}
"""


@dataclass(frozen=True)
class Setup:
    """What one measurement wants of a proxy."""

    directory: Path
    backends: tuple[int, ...]
    core: int
    files: int  # descriptors that a process may open
    haproxy_pipe: int | None = None  # bytes; None: HAProxy does not splice

    @property
    def connections(self) -> int:
        """Each session takes two descriptors, and the proxy needs a few of its own."""
        return min(20000, self.files // 2 - 200)


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs and accepts."""

    name: str
    pid: int
    port: int


@dataclass(frozen=True)
class Kind:
    """How to start one proxy: `command` writes the configuration and says what to run."""

    name: str
    command: Callable[[Setup, int], Sequence[str]]

    @contextlib.contextmanager
    def start(self, setup: Setup) -> Iterator[Proxy]:
        port = free_port()
        child = Child(self.command(setup, port), setup.directory / f"{self.name}.log", setup.core, REPOSITORY)
        with running(child):
            child.wait_for(port)
            time.sleep(SETTLE_SECONDS)
            yield Proxy(self.name, child.pid, port)


def haproxy_command(setup: Setup, port: int) -> Sequence[str]:
    # Splicing is forced: under `splice-auto` HAProxy's heuristics never begin to splice here,
    # it costs what copying costs (1,070 ms/GB, forced 300 with pipes of 1 MiB, 600 with 64 KiB).
    text = HAPROXY_CONF.format(
        connections=setup.connections,
        tune=f"maxpipes 64\n    tune.pipesize {setup.haproxy_pipe}" if setup.haproxy_pipe else "",
        splice="option splice-request\n    option splice-response" if setup.haproxy_pipe else "",
        port=port,
        backends="\n    ".join(f"server b{each} 127.0.0.1:{each}" for each in setup.backends),
    )
    return ["haproxy", "-db", "-f", _written(setup, "haproxy.cfg", text)]


def nginx_command(setup: Setup, port: int) -> Sequence[str]:
    module = stream_module()
    text = NGINX_CONF.format(
        load_module=f"load_module {module};" if module else "",
        user=nginx_user(),
        files=setup.files,
        directory=setup.directory,
        # max_fails=0: nginx's passive checks off, as the others have none
        backends=" ".join(f"server 127.0.0.1:{each} max_fails=0;" for each in setup.backends),
        port=port,
    )
    prefix = ["nginx", "-p", str(setup.directory), "-e", str(setup.directory / "nginx-error.log")]
    return [*prefix, "-c", _written(setup, "nginx.conf", text)]


def gproxy_command(program: Sequence[str]) -> Callable[[Setup, int], Sequence[str]]:
    def command(setup: Setup, port: int) -> Sequence[str]:
        backends = ", ".join(f'"127.0.0.1:{each}"' for each in setup.backends)
        text = GPROXY_CONF.format(port=port, connections=setup.connections, backends=backends)
        return [*program, _written(setup, "gproxy.yaml", text)]

    return command


def kinds(gproxy: Sequence[str]) -> dict[str, Kind]:
    """HAProxy first: the others are measured against it."""
    known = (
        Kind("haproxy", haproxy_command),
        Kind("nginx", nginx_command),
        Kind("gproxy", gproxy_command(gproxy or [sys.executable, "-m", "gproxy"])),
    )
    return {kind.name: kind for kind in known}


def _written(setup: Setup, name: str, text: str) -> str:
    path = setup.directory / name
    path.write_text(text)
    return str(path)


def stream_module() -> Path | None:
    """The file of nginx's stream module, None when it is built in; MissingToolError without either."""
    build = nginx_build()
    if re.search(r"--with-stream(?=\s|$)", build):
        return None
    folder = re.search(r"--modules-path=(\S+)", build)
    module = Path(folder[1] if folder else "/usr/lib/nginx/modules") / "ngx_stream_module.so"
    if "--with-stream=dynamic" in build and module.exists():
        return module
    raise MissingToolError("nginx has no stream module: apt-get install libnginx-mod-stream")


PACKAGES = {"wrk": "wrk", "taskset": "util-linux", "nginx": "nginx-light libnginx-mod-stream", "haproxy": "haproxy"}


def check_tools(names: Sequence[str]) -> None:
    """MissingToolError that names every package to install; nginx is also the origin, so always needed."""
    needed = {"wrk", "taskset", "nginx", *names} & PACKAGES.keys()
    missing = sorted(tool for tool in needed if shutil.which(tool) is None)
    if missing:
        packages = " ".join(PACKAGES[tool] for tool in missing)
        raise MissingToolError(f"missing: {', '.join(missing)}. On Debian: apt-get install {packages}")
    if "nginx" in names:
        stream_module()
