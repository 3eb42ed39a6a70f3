"""Both ends of a session in a test's own hands: plain blocking sockets with a timeout.

Where a test wants to see what each peer sees, it is the backend itself:

    with listening() as backend, Gproxy(tmp_path, CONFIG, environ={"BACKEND": address(backend)}) as proxy:
        with session(proxy, backend) as (client, server): ...
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.origin import Origin
from tests.support.proxy import Gproxy

TIMEOUT = 10.0  # seconds; a test fails after them, it never waits for them

_SYN_SENT = "02"  # in /proc/net/tcp
_LINGER_NOT = struct.pack("ii", 1, 0)
_LINE = re.compile(
    r"(?P<client>\S+) \[\S+\] (?P<listener>\S+) (?P<upstream>[^/]+)/(?P<backend>\S+) "
    r"(?P<tw>-?\d+)/(?P<tc>-?\d+)/(?P<tt>-?\d+) (?P<bytes_in>\d+)/(?P<bytes_out>\d+) (?P<code>..) "
    r"(?P<counts>[\d/]+) (?P<retries>\d+) (?P<connection>\S+)"
)


def listening(backlog: int = 128) -> socket.socket:
    """A backend that accepts when the test says so. gproxy should not check its health."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    listener.settimeout(TIMEOUT)
    return listener


def address(sock: socket.socket) -> str:
    """As a configuration names it."""
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"


def accept(listener: socket.socket) -> socket.socket:
    """The backend's end of the next connection."""
    connection, _ = listener.accept()
    connection.settimeout(TIMEOUT)
    return connection


@contextlib.contextmanager
def session(
    proxy: Gproxy, backend: socket.socket, listener: str = "web"
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's and the backend's end of a new session."""
    with proxy.connect(listener) as client, accept(backend) as server:
        yield client, server


def settle(client: socket.socket, server: socket.socket) -> None:
    """Let gproxy's loop go round a few times over an open session: what was ready before is dealt with then."""
    for _ in range(5):
        client.sendall(b".")
        assert server.recv(1) == b"."
        server.sendall(b".")
        assert client.recv(1) == b"."


def read(sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, or what came before the end."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def read_to_end(sock: socket.socket) -> bytes:
    """All bytes up to FIN; ConnectionResetError for a stream that was cut off."""
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def is_reset(sock: socket.socket) -> bool:
    """Read to the end: whether that is a RST, and no FIN."""
    return _breaks(lambda: read_to_end(sock))


def meets_reset(proxy: Gproxy, listener: str = "web") -> bool:
    """Whether a new client is reset, which may come before its connect() has returned."""

    def look() -> None:
        with proxy.connect(listener) as client:
            read_to_end(client)

    return _breaks(look)


def send_until_reset(sock: socket.socket) -> bool:
    """Send until the peer resets; False if it takes a GiB."""
    block = bytes(1 << 20)

    def flood() -> None:
        for _ in range(1024):
            sock.sendall(block)

    return _breaks(flood)


def _breaks(act: Callable[[], object]) -> bool:
    try:
        act()
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    sock.close()


def small_buffer(sock: socket.socket) -> socket.socket:
    """Have a socket that is not connected yet take little of what it doesn't read."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return sock


class Line(NamedTuple):
    """One line of the access log, times in ms."""

    client: str
    listener: str
    backend: str
    tw: int
    tc: int
    tt: int
    bytes_in: int
    bytes_out: int
    code: str
    retries: int
    connection: str


def parse_line(text: str) -> Line:
    found = _LINE.fullmatch(text)
    assert found, text
    return Line(
        found["client"], found["listener"], found["backend"], int(found["tw"]), int(found["tc"]), int(found["tt"]),
        int(found["bytes_in"]), int(found["bytes_out"]), found["code"], int(found["retries"]), found["connection"],
    )  # fmt: skip


def wait_for_line(proxy: Gproxy, pattern: str = "") -> Line:
    """The first line of the access log that matches."""
    return parse_line(proxy.wait_for_access(rf"(?m)^.*{pattern}.*$" if pattern else r"(?m)^.+$"))


def refusing() -> socket.socket:
    """A bound socket that doesn't listen: whoever dials its address is refused, as long as it is open."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """The address of a stopped origin with a full backlog: a dial of it is never answered."""
    with Origin("echo", backlog=0) as origin, black_holed(origin):
        yield origin.address


@contextlib.contextmanager
def black_holed(origin: Origin) -> Iterator[None]:
    """Stop an origin that has a backlog of 0, and fill that: from then on a dial of it is never answered."""
    origin.freeze()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(("127.0.0.1", origin.port))
            except TimeoutError:
                break
        else:
            raise AssertionError("its backlog takes no end of connections")
        yield


def is_dialling(proxy: Gproxy, port: int) -> bool:
    """Whether gproxy waits for the answer of a backend on this port of IPv4."""
    return any(_is_dialling(Path(f"/proc/{pid}"), port) for pid in proxy.processes().values())


def _is_dialling(directory: Path, port: int) -> bool:
    rows = [line.split() for line in (directory / "net/tcp").read_text().splitlines()[1:]]
    dials = {f"socket:[{row[9]}]" for row in rows if row[3] == _SYN_SENT and row[2].endswith(f":{port:04X}")}
    return not dials.isdisjoint(_links(directory / "fd"))


def _links(descriptors: Path) -> Iterator[str]:
    for each in descriptors.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            yield str(each.readlink())
