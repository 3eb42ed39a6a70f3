"""What each proxy is told: alike in tcp mode, and alike in http mode.

Unless a measurement asks for more, none of them checks its backends or ends an idle
session; each has one worker, three backends (one for idle sessions) and round robin.
Pen and the Python forwarders know tcp alone. In http mode:

- Each keeps up to POOL_SIZE idle connections per backend and uses them for any client.
  HAProxy needs `http-reuse always` for that: under `safe`, its default, the first
  request of a client always gets a new connection to the backend.
- Each tells the backend the client's address in X-Forwarded-For. gproxy and Caddy add
  more than that by default, and stay as they are.
- Each writes its usual access log, one line per request, to a file in memory, or none.
  HAProxy writes it to standard output, which is that file: it is what containers do,
  and cheaper for HAProxy than a datagram to syslog for each line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from origins import nginx_build, nginx_user
from processes import MissingToolError

POOL_SIZE = 128
CHANGING_DRAIN_SECONDS = 60  # longer than what a download takes
GPROXY_PID_FILE = "gproxy.pid"
NGINX_PID_FILE = "nginx.pid"

HAPROXY_CONF = """
global
    nbthread {workers}
    maxconn {connections}
    {tune}
defaults
    mode {mode}
    {options}
    balance roundrobin
    timeout connect 5s
    timeout client 600s
    timeout server 600s
listen bench
    bind 127.0.0.1:{port}
    {backends}
"""

NGINX_CONF = """
{load_module}
daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile {files};
pid {directory}/{pid_file};
error_log {directory}/nginx-error.log error;
events {{ worker_connections 20000; }}
{block}
"""

NGINX_STREAM = """
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

NGINX_HTTP = """
http {{
    access_log {access};
    client_body_temp_path {directory}/proxy-body;
    proxy_temp_path {directory}/proxy-proxy;
    fastcgi_temp_path {directory}/proxy-fastcgi;
    uwsgi_temp_path {directory}/proxy-uwsgi;
    scgi_temp_path {directory}/proxy-scgi;
    proxy_max_temp_file_size 0;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    upstream origin {{
        {backends}
        keepalive {pool_size};
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""

GPROXY_CONF = """
load_balancer:
  connection_idle_timeout: 600
  stall_timeout: 600
  drain_timeout: {drain_timeout}
workers: {workers}
{pid_file}
listeners:
  - name: bench
    bind: 127.0.0.1:{port}
    mode: {mode}
    upstream: origin
    max_connections: {connections}
upstreams:
  origin:
    balance: round_robin
    {pool}
    health_check: {{type: {check}}}
    backends: [{backends}]
log: {{level: {level}, access: "{access}"}}
"""

CADDY_CONF = """
{{
    admin off
    auto_https off
    grace_period 1s
    log {{
        level ERROR
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    reverse_proxy {backends} {{
        lb_policy round_robin
        transport http {{
            keepalive_idle_conns_per_host {pool_size}
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Setup:
    """What one measurement wants of a proxy."""

    directory: Path
    backends: tuple[int, ...]
    core: int | None  # None: any
    files: int  # descriptors that a process may open
    mode: str = "tcp"  # or "http"
    access_log: bool = False  # in http mode, into access_file()
    haproxy_pipe: int | None = None  # bytes; None: HAProxy does not splice
    workers: int = 1  # HAProxy has threads instead
    changing: bool = False  # it will be reloaded and upgraded while it has sessions
    checked: bool = False  # gproxy checks its backends, as it does by default
    gproxy_level: str = "warning"  # of its log

    @property
    def connections(self) -> int:
        """Each session takes two descriptors, and the proxy needs a few of its own."""
        return min(20000, self.files // 2 - 200)

    @property
    def http(self) -> bool:
        return self.mode == "http"

    def access_target(self, name: str) -> str:
        """The file of this proxy's access log, or off."""
        return str(self.access_file(name)) if self.access_log else "off"

    def access_file(self, name: str) -> Path:
        return self.directory / f"{name}-access.log"


def haproxy_config(setup: Setup, port: int) -> str:
    pool = f" pool-max-conn {POOL_SIZE}" if setup.http else ""
    return HAPROXY_CONF.format(
        connections=setup.connections,
        workers=setup.workers,
        tune="\n    ".join(_haproxy_tuning(setup)),
        mode=setup.mode,
        options="\n    ".join(_haproxy_options(setup)),
        port=port,
        backends="\n    ".join(f"server b{each} 127.0.0.1:{each}{pool}" for each in setup.backends),
    )


def _haproxy_tuning(setup: Setup) -> list[str]:
    tuning = ["maxpipes 64", f"tune.pipesize {setup.haproxy_pipe}"] if setup.haproxy_pipe else []
    if setup.changing:
        # A new worker gets the listening sockets from the one before it, so that no port closes meanwhile.
        tuning.append(f"stats socket {setup.directory}/haproxy.sock mode 600 level admin expose-fd listeners")
        tuning.append(f"hard-stop-after {CHANGING_DRAIN_SECONDS}s")
    return tuning


def _haproxy_options(setup: Setup) -> list[str]:
    options = ["log stdout format raw local0", "option httplog"] if setup.access_log else ["no log"]
    if setup.http:
        options += ["http-reuse always", "option forwardfor"]
    if setup.haproxy_pipe:
        # Splicing is forced: under `splice-auto` HAProxy's heuristics never begin to splice here,
        # it costs what copying costs (1,070 ms/GB, forced 300 with pipes of 1 MiB, 600 with 64 KiB).
        options += ["option splice-request", "option splice-response"]
    return options


def nginx_config(setup: Setup, port: int) -> str:
    module = None if setup.http else stream_module()
    block = (NGINX_HTTP if setup.http else NGINX_STREAM).format(
        directory=setup.directory,
        access=setup.access_target("nginx"),
        # max_fails=0: nginx's passive checks off, as the others have none
        backends=" ".join(f"server 127.0.0.1:{each} max_fails=0;" for each in setup.backends),
        pool_size=POOL_SIZE,
        port=port,
    )
    return NGINX_CONF.format(
        load_module=f"load_module {module};" if module else "",
        user=nginx_user(),
        workers=setup.workers,
        files=setup.files,
        pid_file=NGINX_PID_FILE,
        directory=setup.directory,
        block=block,
    )


def gproxy_config(setup: Setup, port: int) -> str:
    return GPROXY_CONF.format(
        port=port,
        mode=setup.mode,
        workers=setup.workers,
        drain_timeout=CHANGING_DRAIN_SECONDS if setup.changing else 1,
        pid_file=f"pid_file: {setup.directory}/{GPROXY_PID_FILE}" if setup.changing else "",
        connections=setup.connections,
        check="tcp" if setup.checked else "none",
        level=setup.gproxy_level,
        pool=f"pool: {{size: {POOL_SIZE}, reuse: safe}}" if setup.http else "",
        backends=", ".join(f'"127.0.0.1:{each}"' for each in setup.backends),
        access=setup.access_target("gproxy"),
    )


def caddy_config(setup: Setup, port: int) -> str:
    backends = " ".join(f"127.0.0.1:{each}" for each in setup.backends)
    return CADDY_CONF.format(port=port, backends=backends, pool_size=POOL_SIZE)


def pen_config(setup: Setup, port: int) -> str:
    """Its arguments; it is not needed as a file. -r: round robin, else a client stays with its backend."""
    backends = " ".join(f"127.0.0.1:{each}" for each in setup.backends)
    return f"-f -r -x {setup.connections} -c {setup.connections} 127.0.0.1:{port} {backends}\n"


def forwarder_config(setup: Setup, port: int) -> str:
    """Of the Python forwarders: see forwarding.py."""
    return "".join(f"127.0.0.1:{each}\n" for each in (port, *setup.backends))


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
