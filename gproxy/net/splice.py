"""Pipes that carry bulk between two sockets inside the kernel, splice(2)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource

PIPE_SIZE = 1024 * 1024  # bytes asked for; fs.pipe-max-size is 1 MiB by default
MAX_PIPES = 256  # in use and free together: bounds descriptors and kernel memory
MAX_FREE = 16

# Not an end of the connection: nothing to take just now (or only an urgent byte), or a
# sandbox that does not let us splice. Copying goes on.
CANNOT_SPLICE = frozenset((errno.EAGAIN, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP))

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipe:
    """A pipe with `pending` bytes in it, between one splice in and the splices out."""

    __slots__ = ("pending", "read_fd", "write_fd")

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.pending = 0
        with contextlib.suppress(OSError):  # above the quota (fs.pipe-user-pages-soft) the default size does
            fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    def fill(self, fd: int, most: int = PIPE_SIZE) -> int:
        """Take what the socket holds, `most` bytes at most. 0 at its end, or at an urgent byte; OSError as recv."""
        moved = os.splice(fd, self.write_fd, most, flags=_FLAGS)
        self.pending += moved
        return moved

    def drain(self, fd: int) -> None:
        """Hand on all that is pending; BlockingIOError when the socket takes no more."""
        while self.pending:
            self.pending -= os.splice(self.read_fd, fd, self.pending, flags=_FLAGS)

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


class PipeStore:
    """The process's pipes: a short free list, and a bound on how many there are."""

    def __init__(self, limit: int | None = None):
        self._fixed = limit
        self._made = 0
        self._free: list[Pipe] = []

    @property
    def limit(self) -> int:
        """How many there may be; by default no more than an eighth of the descriptors allow."""
        if self._fixed is not None:
            return self._fixed
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return MAX_PIPES if soft == resource.RLIM_INFINITY else min(MAX_PIPES, soft // 16)

    def take(self) -> Pipe | None:
        """A pipe that is empty, or None where there are enough of them or no descriptor is left."""
        if self._free:
            return self._free.pop()
        if self._made >= self.limit:
            return None
        try:
            pipe = Pipe()
        except OSError:
            return None
        self._made += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """One with bytes left in it is closed, never kept: they belong to a session that ended."""
        if pipe.pending or len(self._free) >= MAX_FREE:
            self._made -= 1
            pipe.close()
        else:
            self._free.append(pipe)

    def __repr__(self) -> str:
        return f"<PipeStore {self._made - len(self._free)} in use, {len(self._free)} free, at most {self.limit}>"


PIPES = PipeStore()
