"""What a measurement was taken on: the machine, and the versions of all that took part."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = {
    "haproxy": ("HAProxy", ["haproxy", "-v"]),
    "nginx": ("nginx", ["nginx", "-v"]),
    "caddy": ("Caddy", ["caddy", "version"]),
    "pen": ("Pen", ["dpkg-query", "-W", "pen"]),
}
PACKAGES = {"gproxy": ("gproxy", "gevent", "httptools"), "gevent": ("gevent",), "proxy.py": ("proxy.py",)}
VERSION = re.compile(r"\d+\.\d[\w.+-]*")


def facts(cores: int, proxies: Sequence[str], gproxy: Sequence[str]) -> dict[str, str]:
    """What to know of this machine, by name; `gproxy` is the command that was measured."""
    kernel, _, _ = platform.release().partition("-")
    return {
        "processor": f"{processor()}, {cores} cores for the comparison",
        "system": f"{distribution()}, Linux {kernel}, loopback with {setting('tcp_congestion_control')}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {event_loop()}",
        "versions": ", ".join(versions(proxies)),
        "gproxy": output([*gproxy, "--version"]).strip(),
    }


def processor() -> str:
    found = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def distribution() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "an unknown distribution")


def setting(name: str) -> str:
    return (Path("/proc/sys/net/ipv4") / name).read_text().strip()


def event_loop() -> str:
    import gevent  # here, since it is asked for once

    loop = gevent.get_hub().loop
    return f"gevent on {type(loop).__module__.split('.')[1]} with {loop.backend}"


def versions(proxies: Sequence[str]) -> list[str]:
    programs = [("wrk", ["wrk", "-v"]), *(PROGRAMS[name] for name in proxies if name in PROGRAMS)]
    packages = dict.fromkeys(package for name in proxies for package in PACKAGES.get(name, ()))
    return [
        *(f"{title} {version_of(command)}" for title, command in programs),
        *(f"{package} {importlib.metadata.version(package)}" for package in packages),
    ]


def version_of(command: Sequence[str]) -> str:
    found = VERSION.search(output(command))
    return found[0] if found else "of an unknown version"


def output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout + done.stderr
