"""Bare sockets: how they are closed."""

from __future__ import annotations

import socket
from typing import Any, cast

from gproxy.net.connection import finish
from tests.support.loopback import End, pair


def test_finish_is_a_fin_whatever_nobody_has_read() -> None:
    peer, ours = pair()
    peer.send(b"ask")
    peer.wait_acknowledged()
    finish(ours)
    assert peer.rest() == (b"", End.FIN)
    assert peer.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0  # nor a RST behind the FIN
    peer.close()


def test_a_peer_that_floods_cannot_hold_a_finish() -> None:
    class Flood:
        """A socket with no end of input."""

        reads = 0
        closed = False

        def shutdown(self, _how: int) -> None:
            pass

        def recv(self, size: int) -> bytes:
            self.reads += 1
            assert self.reads < 1000, "it goes on for ever"
            return bytes(size)

        def close(self) -> None:
            self.closed = True

    flood = Flood()
    finish(cast(Any, flood))
    assert flood.closed
