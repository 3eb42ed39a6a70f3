"""Keys: single keys of a terminal, without waiting for Enter and without showing them."""

from __future__ import annotations

import os
import re
import select
import termios
import tty
from types import TracebackType

_SEQUENCE = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?", re.S)  # ECMA-48, section 5.4; and keys with Alt


class Keys:
    """`with Keys(fd) as keys:` the terminal is as it was afterwards. Ctrl-C stays a signal."""

    def __init__(self, fd: int):
        self._fd = fd

    def __enter__(self) -> Keys:
        self.begin()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self.end()

    def begin(self) -> None:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSADRAIN)  # what is typed ahead counts

    def end(self) -> None:
        termios.tcsetattr(self._fd, termios.TCSAFLUSH, self._before)

    def wait(self, seconds: float) -> str | None:
        """The keys that were pressed, arrows and the like left out; None: none for so many seconds.

        EOFError where the terminal is gone.
        """
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return None
        data = os.read(self._fd, 64)
        if not data:
            raise EOFError
        return _SEQUENCE.sub(b"", data).decode("latin-1")
