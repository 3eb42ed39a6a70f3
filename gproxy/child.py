"""What runs in a child of the master: a Worker or the Steward, from its start to its exit status.

    start ─▶ "ready" ─▶ orders, until one of them, a signal or the master's end says stop ─▶ drain, stop
          ─▶ "failed"

A child obeys its channel alone. The signals that a terminal or a service manager sends to every process of a group are
the master's to act on: a worker that ended by itself would leave its clients waiting until the master knows.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from traceback import print_exc
from typing import Any, NoReturn, Protocol

import gevent
from gevent.event import Event
from gevent.util import wrap_errors

from gproxy import orders
from gproxy.admin.desk import Reload
from gproxy.channel import Channel, Message
from gproxy.core.settings import Config
from gproxy.errors import ConfigError, GproxyError
from gproxy.logs import STDERR, LogSink, setup_logging
from gproxy.metrics import Slot
from gproxy.net.background import forever
from gproxy.privileges import drop
from gproxy.shared import Shared
from gproxy.steward import AdminPost, Steward
from gproxy.watchdog import HubWatchdog
from gproxy.worker import Share, Worker

log = logging.getLogger("gproxy.child")

FAILED = 2  # exit status of a child that can't start
_DEFECT = 1
_LOG_FLUSH_TIMEOUT = 1.0  # seconds
_PULSE = 0.1  # seconds between signs of life, and between looks at the board
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def call_process(name: str) -> None:
    """What `ps -o comm` and `pgrep` call this process: 15 bytes."""
    with suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(name)


class Role(Protocol):
    """What a child does."""

    def start(self) -> None:
        """Return when it can serve. GproxyError where it can't."""

    def obey(self, message: Message) -> None:
        """An order that is not about ending."""

    def drain(self, timeout: float, *, gently: bool) -> None:
        """End in order, in so many seconds; gently, where somebody else serves already."""

    def stop(self) -> None:
        """End at once."""

    def lost_lines(self, lines: int) -> None:
        """Lines of the log could not be written."""


def run(name: str, config: Config, channel: Channel, make: Callable[[], Role]) -> NoReturn:
    """Be a child, to the process's end. For a process that was just forked; `name` is for `ps`."""
    status = _DEFECT
    try:
        call_process(name)
        status = _Child(config, channel).run(make)
    except BaseException:  # noqa: BLE001  # nobody above us but the master's own code, which must not run here
        print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Child:
    def __init__(self, config: Config, channel: Channel):
        self._config = config
        self._channel = channel
        self._role: Role | None = None
        self._stop, self._hurry = Event(), Event()
        self._timeout, self._gently = config.drain_timeout, False

    def run(self, make: Callable[[], Role]) -> int:
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
        sink = self._sink = LogSink(STDERR, self._lost_lines)
        sink.start()
        setup_logging(self._config.log, sink)
        self._watcher = gevent.get_hub().loop.io(self._channel.fileno(), 1)
        self._watcher.start(self._listen)
        try:
            return self._live(make)
        finally:
            self._watcher.close()
            sink.close(_LOG_FLUSH_TIMEOUT)

    def _live(self, make: Callable[[], Role]) -> int:
        try:
            if self._config.identity is not None:
                drop(self._config.identity)
            role = self._role = make()
            if not self._start(role):
                return 0
        except GproxyError as error:
            why = str(error) if isinstance(error, ConfigError) else f"gproxy: {error}"
            self._channel.send(said="failed", why=why)
            return FAILED
        _settle_garbage_collector()
        self._sink.flush(_LOG_FLUSH_TIMEOUT)  # before the master says that it is ready
        self._channel.send(said="ready")
        self._stop.wait()
        drain = gevent.spawn(role.drain, self._timeout, gently=self._gently)
        gevent.wait([drain, self._hurry], count=1)
        role.stop()
        return 0

    def _start(self, role: Role) -> bool:
        """Start it, unless we are asked to stop meanwhile; whether it serves."""
        start = gevent.spawn(wrap_errors(Exception, role.start))
        gevent.wait([start, self._stop], count=1)
        if not start.ready():
            start.kill()
            role.stop()
            return False
        if isinstance(start.value, Exception):
            raise start.value
        return True

    def _listen(self) -> None:
        """In the hub: take orders."""
        for message in self._channel.receive():
            match message.get("do"):
                case "drain":
                    self._drain(message["timeout"], gently=message["gently"])
                case "stop":
                    self._hurry.set()
                    self._stop.set()
                case _:
                    if self._role is not None:
                        self._role.obey(message)
        if self._channel.over:
            self._watcher.stop()
            if not self._stop.is_set():
                log.warning("the master has gone: this process ends, too, once its sessions have")
            self._stop.set()

    def _drain(self, timeout: float, *, gently: bool) -> None:
        if not self._stop.is_set():
            self._timeout, self._gently = timeout, gently
            self._stop.set()
        elif self._role is not None:  # once more, since the master itself is to stop: the end that comes first counts
            hasty = gevent.spawn(self._role.drain, timeout, gently=gently)
            hasty.link(lambda _drain: self._hurry.set())

    def _lost_lines(self, lines: int) -> None:
        if self._role is not None:
            self._role.lost_lines(lines)


class WorkerRole:
    """A worker, with its signs of life."""

    def __init__(self, config: Config, share: Share, watchdog: HubWatchdog, say: Callable[..., object]):
        """`say` tells the master."""
        self._share = share
        self._say = say
        self._watchdog = watchdog
        self._worker = Worker(config, share)
        self._pulse: Any = None

    def start(self) -> None:
        self._watchdog.start()
        self._pulse = gevent.spawn(forever, self._beat, log)
        self._worker.prepare()

    def obey(self, message: Message) -> None:
        match message["do"]:
            case "serve":
                self._worker.serve()
            case "reopen":
                self._worker.reopen_logs()
            case "ask":
                orders.reply(self._worker, self._share.slot, message, self._say)
            case "eject" | "readmit" | "empty" | "log":
                orders.carry_out(self._worker, message)

    def drain(self, timeout: float, *, gently: bool) -> None:
        call_process(f"gproxy-drain{self._share.slot}")  # an operator wants to tell it from the one that serves
        self._worker.drain(timeout, gently=gently)

    def stop(self) -> None:
        if self._worker.sessions:
            log.warning("worker %d: sessions that had to be closed: %d", self._share.slot, len(self._worker.sessions))
        self._worker.stop()
        self._watchdog.stop()
        self._worker.pulse()
        if self._pulse is not None:
            self._pulse.kill(block=False)

    def lost_lines(self, lines: int) -> None:
        self._worker.metrics.count(Slot.LOG_DROPPED, lines)

    def _beat(self) -> None:
        self._watchdog.alive()
        self._worker.pulse()
        gevent.sleep(min(_PULSE, self._watchdog.interval))


class StewardRole:
    """The steward; `earlier` are the shared memories of earlier generations, by number."""

    def __init__(
        self, config: Config, shared: Shared, earlier: dict[int, Shared], channel: Channel, post: AdminPost | None
    ):
        self._earlier = earlier
        self._channel = channel
        self._slot = config.workers
        self._steward = Steward(config, shared, earlier.values(), post)

    def start(self) -> None:
        gevent.spawn(forever, self._beat, log)
        self._steward.start()

    def obey(self, message: Message) -> None:
        match message["do"]:
            case "report":
                known = (number for number in message["after"] if number in self._earlier)  # not: absorbed meanwhile
                self._steward.report([self._earlier[number] for number in known])
                self._channel.send(said="reports", after=message["after"])
            case "retire":
                self._steward.retire()
            case "ending":
                self._steward.ending()
            case "reload":
                self._steward.reloaded(Reload(*message["reload"]))
            case "answered":
                self._steward.answered(message["id"], message["answer"])
            case "over":
                gevent.spawn(self._absorb, message["generation"])

    def _absorb(self, generation: int) -> None:
        earlier = self._earlier.pop(generation, None)
        if earlier is not None:
            self._steward.over(earlier)
        self._channel.send(said="absorbed", generation=generation)

    def drain(self, timeout: float, *, gently: bool) -> None:
        """It has nobody to wait for."""

    def stop(self) -> None:
        self._steward.stop()

    def _beat(self) -> None:
        self._steward.shared.alive(self._slot)
        gevent.sleep(_PULSE)

    def lost_lines(self, lines: int) -> None:
        self._steward.metrics.count(Slot.LOG_DROPPED, lines)


def _settle_garbage_collector() -> None:
    """What exists when we are ready lives on: the collector need not walk it again and again.

    Sessions free themselves by reference counts; the collector is for accidents.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
