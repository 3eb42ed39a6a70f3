"""Who holds the event loop: a timer that `alive()` winds up again and again, and that notes a stack when it runs out.

    worker   alive() ──► SIGALRM in held_for seconds, unless alive() comes first
             SIGALRM ──► the main thread's stack ──► a memfd
             alive(), late ──► one line in the log, with that stack
    master   ask_for_stack(pid), a moment later last_stack(fd), then SIGKILL

| what holds the loop | its stack is noted |
|---|---|
| Python code; a wait in a system call that a signal interrupts, such as time.sleep | while it does |
| C code, with the GIL or without | when it returns, in the function that called it |
| C code that does not return | when the master asks, by a handler in C that needs no GIL |
| nobody: the process was stopped and continued | it shows the hub, or SIGCONT says so: no report |

Why not `faulthandler.dump_traceback_later`, nor its signal handler alone: both walk the
frames of a thread that may be running. When it does (a loop that is busy, not held), a frame
or the greenlet under it may go meanwhile, and the process dies: measured with CPython 3.11,
with thousands of switches a second, of one note in 100 to 500. Between two bytecodes, where
Python runs its handlers, 13,000 did no harm. The handler in C remains for a process that is
to be killed in any case. The timer is cheaper, too: 0.3 us to wind it up, not 35 for a thread.

What C code waits for by itself, a signal may cut short (EINTR, or a sleep that ends early), as
any signal may: here only after held_for seconds on the loop. System calls that can are restarted.

It owns SIGALRM, SIGCONT, SIGXCPU and ITIMER_REAL, so it is for processes of our own. No gevent
here: the master imports this.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

STACK_SIGNAL = signal.SIGXCPU  # free, and nobody's habit to send
MOST_LINES = 40  # of a stack; the innermost ones
REPORT_EVERY = 10.0  # seconds; standstills in between are counted, so that they don't flood the log

_HEAD = b"Stack (most recent call first):\n"
_MOST_BYTES = 64 * 1024
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')
_HUB = re.compile(r'.*[/\\]gevent[/\\](hub|_ffi[/\\]loop|lib(ev|uv)[/\\]\w+)\.py", line \d+ in run$')

log = logging.getLogger("gproxy.watchdog")


def make_stack_file() -> int:
    """The descriptor of a memory file for one worker's stacks, made before the fork. The caller closes it."""
    return os.memfd_create("gproxy-stack", os.MFD_CLOEXEC)


def ask_for_stack(pid: int) -> None:
    """Have a worker that is to be killed note where it is; not for others: see above. It takes some milliseconds.

    A worker that did not come as far as `HubWatchdog.start` dies of it.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, STACK_SIGNAL)


def last_stack(fd: int) -> str:
    """The stack that was noted last, a line per frame, innermost first; empty if there is none.

    There is none of a process that is stopped, or deep in the kernel.
    """
    return "\n".join(_trimmed(_frames(fd)))


class HubWatchdog:
    """Logs once for each standstill of `held_for` seconds or more, with the stack of who held the loop.

    Call `start` in the main thread, then `alive` on the loop each `interval` seconds, or more often.
    """

    def __init__(self, held_for: float, fd: int | None = None, *, clock: Callable[[], float] = time.monotonic):
        """`fd` is from `make_stack_file`; without one, it makes its own."""
        self.held_for = held_for
        # A standstill begins up to an interval after the last alive(), and is noted held_for after that.
        self.interval = held_for / 4
        self._own_fd = fd is None
        self._fd = make_stack_file() if fd is None else fd
        self._clock = clock
        self._last = clock()
        self._cpu = time.thread_time()
        self._noted = False  # the timer ran out since the last alive()
        self._continued = False  # so did SIGCONT come
        self._next_report = self._last
        self._unreported = 0
        self._before: dict[signal.Signals, Any] = {}

    def start(self) -> None:
        """From now on `alive` must be called. In the main thread only, as signal handlers are set."""
        handlers = {signal.SIGALRM: self._ran_out, signal.SIGCONT: self._was_stopped}
        for number, handler in handlers.items():
            self._before[number] = signal.signal(number, handler)
            signal.siginterrupt(number, False)  # a policy's read from a file or a socket shall not fail by us
        faulthandler.register(STACK_SIGNAL, file=self._fd, all_threads=False)
        self.alive()

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()
        faulthandler.unregister(STACK_SIGNAL)
        if self._own_fd:
            os.close(self._fd)

    def alive(self) -> None:
        """The loop runs. Costs about a microsecond. Logs if it did not run for long."""
        signal.setitimer(signal.ITIMER_REAL, self.held_for)
        now, cpu = self._clock(), time.thread_time()
        if self._noted:
            # Ends of standstills are known, beginnings are not: this is the least that it was.
            self._look(now, now - self._last - self.interval, cpu - self._cpu)
        self._continued = False
        self._last, self._cpu = now, cpu

    def _ran_out(self, _number: int, _frame: FrameType | None) -> None:
        """Between two bytecodes of the main thread."""
        self._noted = True
        self._forget_stack()
        faulthandler.dump_traceback(file=self._fd, all_threads=False)

    def _was_stopped(self, _number: int, _frame: FrameType | None) -> None:
        self._continued = True

    def _look(self, now: float, seconds: float, cpu: float) -> None:
        frames = _frames(self._fd)
        self._noted = False
        self._forget_stack()
        if self._continued or not frames or _HUB.match(frames[0]):
            return  # stopped, or the machine slept: nobody held the loop
        if now < self._next_report:
            self._unreported += 1
            return
        self._next_report = now + REPORT_EVERY
        _report(frames, max(seconds, 0.0), cpu, self._unreported)
        self._unreported = 0

    def _forget_stack(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)

    def __repr__(self) -> str:
        return f"<HubWatchdog {self.held_for:g} s>"


def _report(frames: list[str], seconds: float, cpu: float, unreported: int) -> None:
    more = f" ({unreported} more standstills since the last report)" if unreported else ""
    message = "the event loop was held for %.1f s or more, with %.1f s of CPU, by %s%s; innermost call first:"
    args = (seconds, cpu, _short(frames[0]), more)
    stack = "\n".join(_trimmed(frames))
    log_with_stack(log, message, args, stack)


def log_with_stack(to: logging.Logger, message: str, args: tuple[object, ...], stack: str) -> None:
    """An error whose stack has lines of its own; those of a message would be escaped."""
    to.handle(to.makeRecord(to.name, logging.ERROR, __file__, 0, message, args, None, sinfo=stack))


def _frames(fd: int) -> list[str]:
    """The frames noted last, innermost first, without those of the note's own making."""
    size = os.fstat(fd).st_size
    noted = os.pread(fd, _MOST_BYTES, max(0, size - _MOST_BYTES))
    lines = noted.rpartition(_HEAD)[2].decode(errors="replace").splitlines()
    return [line for line in lines if (frame := _FRAME.fullmatch(line)) and frame["file"] != __file__]


def _trimmed(frames: list[str]) -> list[str]:
    left_out = len(frames) - MOST_LINES
    return [*frames[:MOST_LINES], f"  and {left_out} more"] if left_out > 0 else frames


def _short(line: str) -> str:
    frame = _FRAME.fullmatch(line)
    assert frame is not None
    return f"{frame['name']} ({frame['file']}:{frame['line']})"
