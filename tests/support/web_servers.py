"""Real web servers for tests: gunicorn, uvicorn and nginx, one process tree each, as tests/support/servers.py has it.

with Gunicorn(tmp_path, "gthread") as server:
    server.address ...
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.proxy import TOP, command_environ
from tests.support.servers import Server, program

_APPS = "tests.support.web_apps"


class PythonServer(Server):
    """`python -m MODULE ARGUMENTS`, ready once its log says READY."""

    READY: str

    def __init__(self, directory: Path, name: str):
        self.name = name
        self.log_path = directory / f"{name}.log"
        super().__init__()

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def spawn(self) -> subprocess.Popen[bytes]:
        home = {"HOME": str(self.log_path.parent)}  # gunicorn keeps a socket there
        with self.log_path.open("wb") as log:
            return subprocess.Popen([sys.executable, "-m", *self.arguments()], cwd=TOP, env=command_environ(home),
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip

    def is_ready(self) -> bool:
        return self.READY in self.log()


class Gunicorn(PythonServer):
    """Its workers are `sync`, which serve a request per connection, or `gthread`, which keep connections."""

    READY = "Listening at"

    def __init__(self, directory: Path, workers: str, *options: str):
        self._options = ["--worker-class", workers, "--workers", "2", *options]
        if workers == "gthread":
            self._options += ["--threads", "8"]
        super().__init__(directory, f"gunicorn-{workers}")

    def arguments(self) -> list[str]:
        return ["gunicorn", "--bind", self.address, *self._options, f"{_APPS}:wsgi"]


class Uvicorn(PythonServer):
    """Heads are parsed by `httptools` or `h11`; it serves WebSocket, too."""

    READY = "Uvicorn running on"

    def __init__(self, directory: Path, parser: str = "httptools"):
        self._parser = parser
        super().__init__(directory, f"uvicorn-{parser}")

    def arguments(self) -> list[str]:
        return ["uvicorn", "--host", "127.0.0.1", "--port", str(self.port), "--http", self._parser,
                "--ws", "websockets-sansio", "--lifespan", "off", f"{_APPS}:asgi"]  # fmt: skip


class WebSocketOrigin(PythonServer):
    """tests/support/websocket_origin.py as a process."""

    READY = "listening"

    def __init__(self, directory: Path):
        super().__init__(directory, "websockets")

    def arguments(self) -> list[str]:
        return ["tests.support.websocket_origin", str(self.port)]


_NGINX = """
daemon off;
{user}
pid {directory}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/proxied; fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi; uwsgi_temp_path {directory}/uwsgi;
    client_max_body_size 0;
    types {{ text/plain txt; text/html html; text/css css; text/javascript js; image/svg+xml svg; }}
    server {{
        listen 127.0.0.1:{port};
        root {files};
        absolute_redirect on;
        location / {{ gzip on; gzip_min_length 1; gzip_proxied any; gzip_types text/plain; }}
        location /uploads/ {{ dav_methods PUT DELETE MKCOL MOVE COPY; create_full_put_path on; }}
        location = /status {{ return 200 "$request_method $http_host\\n"; }}
        location = /nothing {{ return 204; }}
        location = /teapot {{ return 418 "short and stout\\n"; }}
    }}
}}
"""


class Nginx(Server):
    """It serves the files under `files`, and takes uploads under /uploads/."""

    name = "nginx"

    def __init__(self, directory: Path):
        self._directory = directory
        self.log_path = directory / "nginx.log"
        self.files = directory / "files"
        (self.files / "uploads").mkdir(parents=True)
        super().__init__()

    def spawn(self) -> subprocess.Popen[bytes]:
        config = self._directory / "nginx.conf"
        # A worker of root's would be nobody, who may not look into a test's directory.
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(_NGINX.format(directory=self._directory, files=self.files, port=self.port, user=user))
        command = [program("nginx", "nginx-light"), "-p", str(self._directory), "-e", "stderr", "-c", str(config)]
        with self.log_path.open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
