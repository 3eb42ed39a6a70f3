"""Another master from new code takes over the sockets of this one.

this master ── fork, exec of the same command; descriptors by number in the environment ──▶ the new one
            ◀── "ready", once it serves: then we drain and end
            ◀── the end of the channel: it has failed, and we go on
"""

from __future__ import annotations

import json
import os
import signal
import sys
from _socket import socket as Socket
from socket import AF_UNIX, SOCK_SEQPACKET, socket
from typing import Any, NoReturn

from gproxy.channel import Channel
from gproxy.errors import GproxyError
from gproxy.sockets import Held, ListeningSockets

_VARIABLE = "GPROXY_TAKEOVER"


class Takeover:
    """In the new master: what the old one has handed over."""

    def __init__(self, told: dict[str, Any]):
        self.channel = Channel(socket(AF_UNIX, SOCK_SEQPACKET, fileno=told["channel"]))
        os.set_inheritable(told["channel"], False)
        self._sockets: dict[str, Any] = told["sockets"]

    def sockets(self, into: ListeningSockets) -> None:
        for bind, (descriptors, shared, borrowed) in self._sockets.items():
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            into.adopt(bind, Held([_bare(descriptor) for descriptor in descriptors], shared=shared, borrowed=borrowed))

    def done(self) -> None:
        """We serve: the old master may go."""
        self.channel.send(said="ready")
        self.channel.close()


def takeover() -> Takeover | None:
    """What a master before us has handed over, if there is one."""
    told = os.environ.pop(_VARIABLE, None)
    if told is None:
        return None
    try:
        return Takeover(json.loads(told))
    except (ValueError, KeyError, OSError) as error:
        raise GproxyError(f"{_VARIABLE} is for gproxy's own use, and does not make sense: {error}") from error


class Upgrade:
    """In the old master: the new one, while it starts."""

    def __init__(self, sockets: ListeningSockets, until: float):
        """`until`: when it must be ready, in monotonic seconds. OSError where processes or descriptors have run out."""
        self.until = until
        self.channel, theirs = Channel.pair()
        handed = sockets.descriptors()
        told = json.dumps({"channel": theirs.fileno(), "sockets": handed})
        inherited = [theirs.fileno(), *(fd for descriptors, *_ in handed.values() for fd in descriptors)]
        # A signal that comes before the program is executed anew must not be taken for this one's.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _become_the_new_one(told, inherited)
        except OSError:
            self.channel.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
            theirs.close()

    def stop(self) -> None:
        """We are asked to stop, and it is meant, too."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def __repr__(self) -> str:
        return f"<Upgrade to process {self.pid}>"


def _become_the_new_one(told: str, inherited: list[int]) -> NoReturn:
    """In the fork: run the command that started this process again, whatever it is by now."""
    try:
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        environ = os.environ | {_VARIABLE: told}
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # they go to the group at times; cli.py does the same
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
        if "WATCHDOG_PID" in environ:
            environ["WATCHDOG_PID"] = str(os.getpid())
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)
    except OSError as error:
        os.write(2, f"gproxy: the new process could not be started: {error}\n".encode())
    finally:
        os._exit(127)


def _bare(descriptor: int) -> Socket:
    sock = Socket(fileno=descriptor)
    sock.setblocking(False)
    return sock
