"""Addresses as people write them: ``host:port``, ``[v6]:port``, ``unix:/path``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_UNIX_PATH = 107  # bytes; sun_path less its NUL, unix(7)

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens: a host and a port (0 to 65535), or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    @property
    def is_numeric(self) -> bool:
        """Whether it can be dialled as it stands, without asking a resolver."""
        return self.is_unix or _is_ip(self.host)

    def with_port(self, port: int) -> Address:
        return Address(self.host, port, self.path)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read one address; ValueError says what is wrong with it, in words for an operator."""
    if text.startswith("unix:"):
        return _unix(text[len("unix:") :])
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"needs a port, such as {text or '127.0.0.1'}:9100")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"has {port!r} for a port; a port is a number from 0 to 65535")
    return Address(_host(host), int(port))


def _unix(path: str) -> Address:
    if not path.startswith("/"):
        raise ValueError("a unix socket needs an absolute path, such as unix:/run/app.sock")
    if len(path.encode()) > MAX_UNIX_PATH:
        raise ValueError(f"the path is longer than {MAX_UNIX_PATH} bytes, the limit for unix sockets")
    return Address(path=path)


def _host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        inside = host[1:-1]
        if ":" not in inside or not _is_ip(inside):
            raise ValueError(f"has {host!r} for an IPv6 address")
        return inside
    if ":" in host:
        raise ValueError("an IPv6 address stands in brackets, such as [::1]:9100")
    if re.fullmatch(r"[0-9.]+", host) and not _is_ip(host):
        raise ValueError(f"has {host!r} for an IPv4 address")
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"has {host!r} for a host name" if host else "needs a host before the port")
    return host


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
