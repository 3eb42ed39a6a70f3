"""The process: limits, logging, signals. For now it runs one worker in itself.

SIGTERM, SIGINT   stop accepting, drain up to drain_timeout, exit 0; a second one ends the drain
SIGUSR1           opens the access log's file anew
SIGHUP            says that reloading comes in a later version
"""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import signal
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.util import wrap_errors

from gproxy import __version__
from gproxy.core.settings import Config, Reuse
from gproxy.logs import STDERR, LogSink, setup_logging
from gproxy.metrics import Slot
from gproxy.worker import Worker

log = logging.getLogger("gproxy")

_LOG_FLUSH_TIMEOUT = 1.0  # seconds


class Supervisor:
    """Runs a configuration until a signal says stop."""

    def __init__(self, config: Config, on_ready: Callable[[Worker], None] = lambda _worker: None):
        self._config = config
        self._on_ready = on_ready
        self._stop = Event()
        self._hurry = Event()
        self._worker: Worker | None = None

    def run(self) -> int:
        """Serve; the exit status. BindError, ConfigError and LogTargetError before it serves."""
        raise_descriptor_limit()
        sink = LogSink(STDERR, self._lost_lines)
        sink.start()
        setup_logging(self._config.log, sink)
        handlers = self._handle_signals()
        try:
            self._serve()
        finally:
            for handler in handlers:
                handler.cancel()
            sink.close(_LOG_FLUSH_TIMEOUT)
        return 0

    def _serve(self) -> None:
        worker = self._worker = Worker(self._config)
        for warning in (*self._config.warnings, *_sharing(self._config)):
            log.warning(warning)
        if not self._start(worker):
            return
        _settle_garbage_collector()
        log.info("gproxy %s is ready", __version__)
        self._on_ready(worker)
        self._stop.wait()
        self._drain(worker)

    def _start(self, worker: Worker) -> bool:
        """Start it, unless we are asked to stop meanwhile; whether it serves."""
        start = gevent.spawn(wrap_errors(Exception, worker.start))
        gevent.wait([start, self._stop], count=1)
        if not start.ready():
            start.kill()
            worker.stop()
            log.info("stopped before it was ready")
            return False
        if isinstance(start.value, Exception):
            raise start.value
        return True

    def _drain(self, worker: Worker) -> None:
        timeout = self._config.drain_timeout
        log.info("stopping; sessions that have %g s to end: %d", timeout, len(worker.sessions))
        drain = gevent.spawn(worker.drain, timeout)
        gevent.wait([drain, self._hurry], count=1)
        if worker.sessions:
            log.warning("sessions that had to be closed: %d", len(worker.sessions))
        worker.stop()
        log.info("stopped")

    def _handle_signals(self) -> list[gevent.signal_handler]:
        handlers = [gevent.signal_handler(number, self._asked_to_stop) for number in (signal.SIGTERM, signal.SIGINT)]
        handlers.append(gevent.signal_handler(signal.SIGHUP, _no_reload))
        handlers.append(gevent.signal_handler(signal.SIGUSR1, self._reopen_logs))
        return handlers

    def _reopen_logs(self) -> None:
        if self._worker is not None:
            self._worker.reopen_logs()

    def _lost_lines(self, lines: int) -> None:
        if self._worker is not None:
            self._worker.metrics.count(Slot.LOG_DROPPED, lines)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()


def _no_reload() -> None:
    log.warning("SIGHUP: reloading comes in a later version; restart gproxy to apply changes")


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a kernel that refuses leaves us what we had
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _sharing(config: Config) -> list[str]:
    return [
        f"upstream {upstream.name}: pool.reuse is quiescent: clients share backend connections, one after the other; "
        "that is safe only for stateless request/response protocols"
        for upstream in config.upstreams
        if upstream.pool.reuse is Reuse.QUIESCENT
    ]


def _settle_garbage_collector() -> None:
    """What exists when we are ready lives on: the collector need not walk it again and again.

    Sessions free themselves by reference counts; the collector is for accidents.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
