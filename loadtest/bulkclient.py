"""Fetches a large body again and again on a few connections and prints what it got, as JSON.

The body is dropped in the kernel (MSG_TRUNC), so that the client costs little enough
to share a core with the origin without slowing the proxy down. Each body has a
connection of its own, and is checked to be complete. Bodies begun in time are
finished, so that the CPU before and after the whole run belongs to exactly these bytes.

    python bulkclient.py PORT CONNECTIONS SECONDS EXPECTED_BYTES
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time

REQUEST = b"GET /bulk HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
RECEIVE_BYTES = 4 << 20
SILENCE_SECONDS = 5


class Tally:
    def __init__(self) -> None:
        self.bodies = 0
        self.bytes = 0
        self.errors: list[str] = []


def read_head(connection: socket.socket) -> int:
    """Reads to the end of the head and a bit of the body; returns how many body bytes came along."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(4096)
        if not part:
            raise OSError("closed within the head")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"answered {head[:40]!r}")
    return len(body)


def fetch(port: int, expected: int, buffer: bytearray) -> None:
    """One body; OSError when it is not complete to the byte."""
    with socket.create_connection(("127.0.0.1", port), timeout=SILENCE_SECONDS) as connection:
        # A blocking socket with a kernel timeout: Python's own would poll before each recv.
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", SILENCE_SECONDS, 0))
        connection.sendall(REQUEST)
        received = read_head(connection)
        while count := connection.recv_into(buffer, len(buffer), socket.MSG_TRUNC):
            received += count
    if received != expected:
        raise OSError(f"{received} bytes of {expected}")


def fetch_until(deadline: float, port: int, expected: int, tally: Tally) -> None:
    buffer = bytearray(RECEIVE_BYTES)
    while time.monotonic() < deadline and not tally.errors:
        try:
            fetch(port, expected, buffer)
        except OSError as error:
            tally.errors.append(str(error))
        else:
            tally.bodies += 1
            tally.bytes += expected


def main() -> None:
    port, connections, seconds, expected = (int(text) for text in sys.argv[1:])
    tallies = [Tally() for _ in range(connections)]
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=fetch_until, args=(deadline, port, expected, tally)) for tally in tallies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [error for tally in tallies for error in tally.errors]
    print(
        json.dumps({"bodies": sum(t.bodies for t in tallies), "bytes": sum(t.bytes for t in tallies), "errors": errors})
    )


if __name__ == "__main__":
    main()
