"""The proxies, started fresh for every measurement; configs.py says with which configurations."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import (
    Setup,
    caddy_config,
    forwarder_config,
    gproxy_config,
    haproxy_config,
    nginx_config,
    pen_config,
    stream_module,
)
from processes import Child, MissingToolError, free_port, running

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
INSTALLED = [str(Path(sys.executable).with_name("gproxy"))]  # `-m gproxy` would run the checkout's
SETTLE_SECONDS = 0.2  # what a proxy still does after its port accepts


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs and accepts."""

    name: str
    pid: int
    port: int


@dataclass(frozen=True)
class Kind:
    """How to configure one proxy for a port, and how to run it with the file that holds that."""

    name: str
    config: Callable[[Setup, int], str]
    command: Callable[[Path], Sequence[str]]

    @contextlib.contextmanager
    def start(self, setup: Setup) -> Iterator[Proxy]:
        port = free_port()
        with running(self.launch(setup, port)) as child:
            child.wait_for(port)
            time.sleep(SETTLE_SECONDS)
            yield Proxy(self.name, child.pid, port)

    def launch(self, setup: Setup, port: int) -> Child:
        return Child(self.command(self.write_config(setup, port)), self.output(setup), setup.core, REPOSITORY)

    def write_config(self, setup: Setup, port: int) -> Path:
        path = setup.directory / f"{self.name}.conf"
        path.write_text(self.config(setup, port))
        return path

    def output(self, setup: Setup) -> Path:
        """HAProxy's access log is its standard output."""
        if setup.access_log and self.name == "haproxy":
            return setup.access_file(self.name)
        return setup.directory / f"{self.name}.log"


class Direct(Kind):
    """No proxy at all: what the load generator and the origin take by themselves. It has no CPU time of its own."""

    @contextlib.contextmanager
    def start(self, setup: Setup) -> Iterator[Proxy]:
        yield Proxy(self.name, os.getpid(), setup.backends[0])


def haproxy_command(path: Path) -> Sequence[str]:
    return ["haproxy", "-db", "-f", str(path)]


def nginx_command(path: Path) -> Sequence[str]:
    errors = path.with_name("nginx-error.log")
    return ["nginx", "-p", str(path.parent), "-e", str(errors), "-c", str(path)]


def caddy_command(path: Path) -> Sequence[str]:
    # Its home is ours for as long as it runs, so that it neither reads nor leaves anything in the user's.
    home = [f"{name}={path.parent}" for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")]
    return ["env", *home, "caddy", "run", "--adapter", "caddyfile", "--config", str(path)]


def pen_command(path: Path) -> Sequence[str]:
    user = ["-u", "root"] if os.geteuid() == 0 else []
    return ["pen", *user, *path.read_text().split()]


def forwarder(name: str) -> Callable[[Path], Sequence[str]]:
    return lambda path: [sys.executable, str(HERE / f"forward_{name}.py"), str(path)]


def kinds(gproxy: Sequence[str]) -> dict[str, Kind]:
    """Those that gproxy is measured against go first."""
    program = gproxy or INSTALLED
    known = (
        Direct("direct", lambda *_: "", lambda _: []),
        Kind("haproxy", haproxy_config, haproxy_command),
        Kind("caddy", caddy_config, caddy_command),
        Kind("nginx", nginx_config, nginx_command),
        Kind("pen", pen_config, pen_command),
        Kind("gevent", forwarder_config, forwarder("gevent")),
        Kind("asyncio", forwarder_config, forwarder("asyncio")),
        Kind("proxy.py", forwarder_config, forwarder("proxypy")),
        Kind("gproxy", gproxy_config, lambda path: [*program, str(path)]),
    )
    return {kind.name: kind for kind in known}


PACKAGES = {
    "wrk": "wrk",
    "taskset": "util-linux",
    "nginx": "nginx-light libnginx-mod-stream",
    "haproxy": "haproxy",
    "caddy": "caddy",
    "pen": "pen",
    "ab": "apache2-utils",
}


def check_tools(names: Sequence[str]) -> None:
    """MissingToolError that names every package to install; nginx is also the origin, so always needed."""
    needed = {"wrk", "taskset", "nginx", *names} & PACKAGES.keys()
    missing = sorted(tool for tool in needed if shutil.which(tool) is None)
    if missing:
        packages = " ".join(PACKAGES[tool] for tool in missing)
        raise MissingToolError(f"missing: {', '.join(missing)}. On Debian: apt-get install {packages}")
    if "nginx" in names:
        stream_module()
    if "proxy.py" in names and importlib.util.find_spec("proxy") is None:
        raise MissingToolError(f"missing: proxy.py. {sys.executable} -m pip install proxy.py")
