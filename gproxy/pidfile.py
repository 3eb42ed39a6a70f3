"""The file that names the master process, for scripts and old-fashioned supervisors.

It is written over whatever it said before, as nginx and HAProxy do. A number alone can't
tell a second gproxy from a stale file whose number another process has got since, in a
container every time, and a stale file must never stop a start. Two of one configuration are
kept apart by their listeners: write once those are bound.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile

from gproxy.errors import PidFileError

_MODE = 0o644  # for everybody to read
_LONGEST = 32  # bytes looked at: a number and a line's end


class PidFile:
    """One path. A later change of the working directory doesn't move it."""

    def __init__(self, path: str):
        self.path = os.path.abspath(path)

    def write(self) -> None:
        """Name this process; a reader finds a whole number at any time. PidFileError if it can't be written."""
        try:
            self._refuse_special()
            self._replace(f"{os.getpid()}\n".encode())
        except OSError as error:
            raise PidFileError(f"cannot write the pid file {self.path}: {error.strerror}") from error

    def remove(self) -> None:
        """Take it away if it still names this process: after an upgrade it names the new master.

        Never raises. A file that stays is stale, which does no harm.
        """
        with contextlib.suppress(OSError):
            if self._named() == os.getpid():
                os.unlink(self.path)

    def _refuse_special(self) -> None:
        """A rename over /dev/null would take it from everybody."""
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(self.path).st_mode):
                raise PidFileError(f"cannot write the pid file {self.path}: it exists and is not a regular file")

    def _replace(self, text: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=".gproxy-", suffix=".pid", dir=os.path.dirname(self.path))
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                os.fchmod(file.fileno(), _MODE)
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _named(self) -> int | None:
        """The process that the file names; None for a file that says something else."""
        with open(self.path, "rb") as file:
            text = file.read(_LONGEST)
        return int(text) if text.strip().isdigit() else None
