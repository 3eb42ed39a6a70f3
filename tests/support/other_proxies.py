"""HAProxy and nginx before an origin, as an operator sets them up who changes nothing about how they read requests.

with HaProxy(tmp_path, origin.address) as proxy:
    socket.create_connection(("127.0.0.1", proxy.port))
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from tests.support.servers import Server, program

# A connection for each request, so that what an origin reads on one comes of one client.
_HAPROXY = """
global
    maxconn 2000
    log stderr format raw local0 warning
defaults
    mode http
    log global
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    timeout http-request 5s
    retries 0
frontend web
    bind 127.0.0.1:{port}
    default_backend app
backend app
    http-reuse never
    server b1 {backend}
"""

_NGINX = """
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
events {{ worker_connections 2000; }}
http {{
    access_log off;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/proxied; fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi; uwsgi_temp_path {directory}/uwsgi;
    client_header_timeout 5s; client_body_timeout 5s; send_timeout 5s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{backend};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_read_timeout 5s;
            proxy_next_upstream off;
            proxy_ignore_client_abort on;
        }}
    }}
}}
"""


class OtherProxy(Server):
    """One that is ready as soon as it accepts."""

    def __init__(self, directory: Path, backend: str):
        self._directory = directory / self.name
        self._directory.mkdir()
        self._backend = backend
        self.log_path = self._directory / "log"
        super().__init__()

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def run(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log_path.open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


class HaProxy(OtherProxy):
    name = "HAProxy"

    def spawn(self) -> subprocess.Popen[bytes]:
        path = self._directory / "haproxy.cfg"
        path.write_text(_HAPROXY.format(port=self.port, backend=self._backend))
        return self.run([program("haproxy", "haproxy"), "-db", "-f", str(path)])


class NginxProxy(OtherProxy):
    name = "nginx"

    def spawn(self) -> subprocess.Popen[bytes]:
        path = self._directory / "nginx.conf"
        # A worker of root's would be nobody, who may not look into a test's directory.
        user = "user root;" if os.geteuid() == 0 else ""
        path.write_text(_NGINX.format(directory=self._directory, port=self.port, backend=self._backend, user=user))
        return self.run([program("nginx", "nginx-light"), "-p", str(self._directory), "-e", "stderr", "-c", str(path)])
