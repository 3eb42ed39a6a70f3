"""Which process has accepted which connection, from /proc/net/tcp and /proc/PID/fd."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from processes import PROC

ESTABLISHED = "01"


def accepted(port: int) -> dict[int, int]:
    """Connections to a loopback port that somebody has accepted: the client's port, and our end's inode."""
    found: dict[int, int] = {}
    for line in (PROC / "net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote, state, inode = fields[1], fields[2], fields[3], int(fields[9])
        # One that still waits in the backlog has no inode.
        if state == ESTABLISHED and inode and int(local.rpartition(":")[2], 16) == port:
            found[int(remote.rpartition(":")[2], 16)] = inode
    return found


def owners(pids: Iterable[int]) -> dict[int, int]:
    """The pid that has a socket open, by inode; of a socket that several have, the last."""
    found: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended
            for entry in os.scandir(PROC / str(pid) / "fd"):
                with contextlib.suppress(OSError):  # closed meanwhile
                    target = os.readlink(entry.path)
                    if target.startswith("socket:["):
                        found[int(target[8:-1])] = pid
    return found


def acceptors(port: int, pids: Iterable[int]) -> dict[int, int]:
    """For each client's port the process, of these, that has its connection."""
    of = owners(pids)
    return {client: of[inode] for client, inode in accepted(port).items() if inode in of}
