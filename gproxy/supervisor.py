"""The master: it owns the listening sockets, and the processes that serve on them. It serves nobody itself.

SIGTERM, SIGINT   stop accepting, drain up to drain_timeout, exit 0; a second one ends the drain
SIGHUP            read the configuration anew: new workers on the same sockets, the old ones drain
SIGUSR1           opens the access log's file anew
SIGUSR2           a new master from new code takes over the sockets, and this one drains
SIGCHLD           a worker has ended: another one takes its slot

    signals, deaths, messages ─▶ one loop ─▶ generations of workers (generation.py)

It has no event loop of gevent's and no thread, so that it can fork at any time, and does nothing that could block or
fail with what comes from outside: checks and metrics are the steward's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from socket import socketpair
from typing import Any, NoReturn

from gproxy import __version__, child, errands, systemd
from gproxy.admin.desk import Instance, Reload
from gproxy.admin.keepsake import Keepsake
from gproxy.channel import Channel
from gproxy.core.settings import Config, Reuse
from gproxy.errors import BindError, ConfigError, StartFailed
from gproxy.generation import STEWARD, Child, Generation
from gproxy.masterlog import setup_master_logging
from gproxy.net.connection import format_sockaddr
from gproxy.pidfile import PidFile
from gproxy.shared import Shared
from gproxy.sockets import ListeningSockets
from gproxy.steward import AdminPost
from gproxy.upgrade import Upgrade, takeover
from gproxy.watchdog import HubWatchdog, ask_for_stack, last_stack, log_with_stack
from gproxy.worker import Share, descriptor_room

log = logging.getLogger("gproxy")

_QUICK, _SLOW = 0.05, 1.0  # seconds between looks at deadlines: while something changes, and otherwise
_GRACE = 5.0  # seconds beyond drain_timeout after which a process that drains is killed
_ANSWER = 0.2  # seconds for a worker to note its stack before it is killed
_LONGEST_WHY = 4000  # characters
_MOST_DRAINING = 10  # generations
_GONE = 5.0  # seconds without a turn of ours after which we were stopped, or the machine was
_DEFECT, _USAGE_ERROR = 1, 2  # exit statuses, as cli.py has them
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)

Load = Callable[[], Config]
OnReady = Callable[[dict[str, Any], Any], None]


class Supervisor:
    """Runs a configuration until a signal says stop."""

    def __init__(self, config: Config, load: Load | None = None, on_ready: OnReady = lambda _addresses, _admin: None):
        """`load` reads the configuration again, ConfigError; `on_ready` is told where the listeners and the API are."""
        self._load = load
        self._on_ready = on_ready
        self._config = config
        self._sockets = ListeningSockets()
        self._selector = selectors.DefaultSelector()
        self._signals: deque[int] = deque()
        self._began = time.monotonic()
        self._numbers = 0
        self._current: Generation | None = None
        self._next: Generation | None = None
        self._draining: list[Generation] = []
        self._reload_again = False
        self._last_reload: Reload | None = None
        self._stopping = False
        self._handed_over = False
        self._steward_told = False  # to stop
        self._upgrade: Upgrade | None = None
        self._turned_at = time.monotonic()
        self._watchdog = systemd.watchdog_interval()
        self._unsaid: dict[str, str | int] | None = None  # what the service manager could not be told yet
        self._uncounted: dict[int, Shared] = {}  # of generations that have ended, until the steward has absorbed them
        self._unheard: list[int] = []  # generations whose operators the present steward may not have heard of yet
        self._pid_file: PidFile | None = None
        self._keepsake = Keepsake()

    # The loop.

    def run(self) -> int:
        """Serve; the exit status. BindError and StartFailed before it serves."""
        child.call_process("gproxy")
        raise_descriptor_limit()
        setup_master_logging(self._config.log)
        self._watch_signals()
        self._takeover = takeover()
        with contextlib.ExitStack() as ending:
            ending.callback(lambda: self._sockets.close(keep_paths=self._handed_over))
            ending.callback(self._remove_pid_file)
            ending.callback(self._kill_all)
            self._adopt_sockets()
            self._sockets.open(self._config)
            self._sockets.listen(self._config)  # who comes before we are ready waits
            self._begin(self._config)
            while not self._over():
                self._turn()
        if self._handed_over:
            log.info("process %d, the old master, has ended", os.getpid())
            return 0
        log.info("stopped" if self._current is not None else "stopped before it was ready")
        return 0

    def _adopt_sockets(self) -> None:
        if self._takeover is not None:
            self._takeover.sockets(self._sockets)
        inherited = [each.socket for each in systemd.inherited_sockets()]
        for sock in self._sockets.adopt_inherited(self._config, inherited):
            log.warning("no listener names %s, on which there is a socket for us", format_sockaddr(sock.getsockname()))
            sock.close()

    def _remove_pid_file(self) -> None:
        if self._pid_file is not None:
            self._pid_file.remove()

    def _over(self) -> bool:
        return self._stopping and not any(generation.children for generation in self._generations())

    def _turn(self) -> None:
        """Wait for something to happen, and see to it."""
        busy = self._stopping or self._next or self._draining or self._upgrade or self._has_trouble()
        for key, _ in self._selector.select(_QUICK if busy else min(_SLOW, self._watchdog or _SLOW)):
            key.data()
        if self._watchdog is not None:
            systemd.notify(WATCHDOG=1)
        if self._unsaid is not None:
            self._say(**self._unsaid)
        while self._signals:
            self._heed(self._signals.popleft())
        self._look_at_deadlines(time.monotonic())

    def _has_trouble(self) -> bool:
        """Whether a process is missing, or about to be killed."""
        if self._current is None:
            return False
        processes = self._current.children.values()
        return len(processes) <= self._current.config.workers or any(process.asked_at for process in processes)

    def _generations(self) -> list[Generation]:
        return [g for g in (self._current, self._next, *self._draining) if g is not None]

    # Signals.

    def _watch_signals(self) -> None:
        self._wake, wakes = socketpair()
        for end in (self._wake, wakes):
            end.setblocking(False)
        self._wakes = wakes  # kept open
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda number, _frame: self._signals.append(number))
        self._selector.register(self._wake, selectors.EVENT_READ, self._drain_wake)

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass

    def _heed(self, number: int) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._stop()
            case signal.SIGHUP:
                self._reload()
            case signal.SIGUSR1:
                for generation in self._generations():
                    generation.tell(do="reopen")
            case signal.SIGUSR2:
                self._begin_upgrade()
            case signal.SIGCHLD:
                self._reap()

    # A generation's life.

    def _begin(self, config: Config) -> None:
        """Fork the processes of a configuration whose sockets are open."""
        for warning in (*config.warnings, *_sharing(config), *_crowding(config)):
            log.warning(warning)
        shared = Shared(config)
        if self._current is not None:
            shared.learn(self._current.shared)
        self._numbers += 1
        until = time.monotonic() + config.start_timeout
        sockets = [self._sockets.of(config, slot) for slot in range(config.workers)]
        self._next = Generation(self._numbers, config, shared, self._in_child, until, sockets)
        lacking = self._next.start()
        for process in self._next.children.values():
            self._listen_to(process)
        if lacking:
            self._abort(f"gproxy: {lacking}")

    def _listen_to(self, process: Child) -> None:
        self._selector.register(process.channel, selectors.EVENT_READ, lambda: self._hear(process))

    def _in_child(self, generation: Generation, slot: int, channel: Channel, stack: int) -> NoReturn:
        """In the fork: let go of what is the master's, and become a worker or the steward."""
        signal.set_wakeup_fd(-1)
        for each in self._generations():
            for process in each.children.values():
                process.channel.close()  # or its process would never see its end
                os.close(process.stack)
        for other in (self._upgrade, self._takeover):
            if other is not None:
                other.channel.close()
        for end in (self._selector, self._wake, self._wakes):
            end.close()
        earlier = self._uncounted | {each.number: each.shared for each in self._draining}
        if generation is self._next and self._current is not None:
            earlier[self._current.number] = self._current.shared
        config, shared = generation.config, generation.shared
        sockets = self._sockets.of_admin(config) if slot == STEWARD else generation.sockets[slot]
        post = self._admin_post(generation, channel) if slot == STEWARD else None
        self._sockets.keep_only(sockets)

        def make() -> child.Role:
            if slot == STEWARD:
                return child.StewardRole(config, shared, earlier, channel, post)
            watchdog = HubWatchdog(config.hub_watchdog, stack)
            return child.WorkerRole(config, Share(shared, slot, sockets), watchdog, channel.send)

        name = "gproxy-steward" if slot == STEWARD else f"gproxy-worker{slot}"
        child.run(name, config, channel, make)

    def _admin_post(self, generation: Generation, channel: Channel) -> AdminPost | None:
        """What the steward needs for the admin API; in its process."""
        sockets = [sock for found in self._sockets.of_admin(generation.config).values() for sock in found]
        if not sockets:
            return None
        addresses = {n: format_sockaddr(found) for n, found in self._sockets.addresses(generation.config).items()}
        instance = Instance(os.getppid(), self._began, generation.number, addresses)
        return AdminPost(sockets, instance, channel.send, self._last_reload, self._keepsake)

    def _hear(self, process: Child) -> None:
        """A child has said something, or has ended."""
        was_ready = process.ready
        self._note(process)
        if process.channel.over:
            self._selector.unregister(process.channel)
        starting = self._next
        if starting is not None and starting.ready:
            self._promote(starting)
        elif process.ready and not was_ready and self._current is not None:
            if process is self._current.steward:
                self._settle_counts()
            elif process in self._current.workers():
                process.channel.send(do="serve")
                log.info("%s, process %d, serves in the place of the one that ended", process.name, process.pid)

    def _note(self, process: Child) -> None:
        """What a child has said."""
        for message in process.channel.receive():
            match message.get("said"):
                case "ready":
                    process.ready = True
                case "failed":
                    process.why = str(message.get("why"))
                case "reports" if isinstance(after := message.get("after"), list):
                    self._unheard = [number for number in self._unheard if number not in after]
                case "absorbed":
                    self._uncounted.pop(message.get("generation", 0), None)
                case "reload":
                    self._asked_to_reload()
                case _:
                    with contextlib.suppress(KeyError, TypeError):  # not as the tables have it
                        errands.pass_on(message, process, self._generations())

    def _promote(self, generation: Generation) -> None:
        """It serves from now on, if nothing of the last steps fails."""
        try:
            self._sockets.listen(generation.config)
        except BindError as error:
            self._abort(f"gproxy: {error}", _USAGE_ERROR)
            return
        self._next = None
        before, self._current = self._current, generation
        if before is None:
            self._write_pid_file()
        generation.tell(do="serve")
        self._config = generation.config
        setup_master_logging(self._config.log)
        self._sockets.close_unused(generation.config)
        for name, sockaddr in self._sockets.addresses(generation.config).items():
            log.info("listener %s: serving on %s", name, format_sockaddr(sockaddr))
        if generation.config.admin is not None:
            log.info("the admin API is at %s", format_sockaddr(self._sockets.admin_address(generation.config)))
        if before is None:
            log.info("gproxy %s is ready", __version__)
            if self._takeover is not None:
                self._takeover.done()
                self._takeover = None
                self._sockets.own_all()
            self._on_ready(self._sockets.addresses(generation.config), self._sockets.admin_address(generation.config))
        else:
            log.info("gproxy %s is ready: the new configuration is in effect", __version__)
            self._unheard.append(before.number)
            self._reload_is("done")
            self._drain(before)
        self._settle_counts()
        self._say(READY=1, MAINPID=os.getpid(), STATUS=f"{generation.config.workers} workers serve")
        self._reload_if_asked_again()

    def _write_pid_file(self) -> None:
        if self._config.pid_file is not None:
            self._pid_file = PidFile(self._config.pid_file)
            self._pid_file.write()

    def _drain(self, generation: Generation) -> None:
        """Let its sessions end."""
        timeout = generation.config.drain_timeout
        generation.until = time.monotonic() + timeout + _GRACE
        generation.tell(do="drain", timeout=timeout, gently=True)
        if generation.steward is not None:
            generation.steward.channel.send(do="stop")
        self._draining.append(generation)
        for oldest in self._draining[:-_MOST_DRAINING]:
            if not oldest.hurried:
                log.warning("too many workers still drain after earlier reloads: the oldest end at once")
                oldest.hurry(time.monotonic() + _GRACE)

    def _start_failed(self, process: Child, otherwise: str) -> None:
        self._abort(process.why or otherwise, _USAGE_ERROR if process.why else _DEFECT)

    def _abort(self, why: str, status: int = _DEFECT) -> None:
        """The generation that was to serve next can't."""
        failed, self._next = self._next, None
        assert failed is not None
        failed.kill()
        if failed.children:
            self._draining.append(failed)  # until its processes are reaped
        if self._current is None:
            raise StartFailed(why, status)
        self._sockets.undo()
        log.error("the new configuration could not be started, and the one before stays in effect: %s", why)
        self._reload_is("failed", why.removeprefix("gproxy: "))
        self._settle_counts()
        self._say(READY=1)
        self._reload_if_asked_again()

    def _tell_steward(self, **message: object) -> None:
        if self._current is not None and self._current.steward is not None:
            self._current.steward.channel.send(**message)

    # Deaths.

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended(pid, status)

    def _ended(self, pid: int, status: int) -> None:
        """A process of ours has; or one that was left to us, because we are process 1 of a container."""
        if self._upgrade is not None and pid == self._upgrade.pid:
            self._upgrade_failed(_manner(status))
        for generation in self._generations():
            for process in generation.children.values():
                if process.pid == pid:
                    self._bury(generation, process, status)
                    return

    def _bury(self, generation: Generation, process: Child, status: int) -> None:
        self._note(process)  # its last words
        with contextlib.suppress(KeyError):
            self._selector.unregister(process.channel)
        generation.bury(process)
        if generation is self._next:
            self._start_failed(process, f"gproxy: {process.name} {_manner(status)} before it was ready")
        elif generation in self._draining:
            self._look_at_end(generation)
        elif not self._stopping:
            delay = generation.vacate(process, time.monotonic())
            when = f"in {delay:g} s" if delay else "at once"
            why = process.why or _manner(status)
            log.error("%s, process %d, %s; another one starts %s", process.name, process.pid, why, when)

    def _look_at_end(self, generation: Generation) -> None:
        if not generation.children:
            self._draining.remove(generation)
            self._uncounted[generation.number] = generation.shared
        self._settle_counts()

    def _settle_counts(self) -> None:
        """One steward reports at a time; and what ended generations have counted becomes part of its own numbers.

        Not while another generation starts, whose steward has those among its own already.
        """
        if self._stopping or self._next is not None or any(each.steward is not None for each in self._draining):
            return
        self._tell_steward(do="report", after=self._unheard)
        for number in self._uncounted:
            self._tell_steward(do="over", generation=number)

    def _say(self, **fields: str | int) -> None:
        """Tell the service manager; again later, where it is too busy to hear it."""
        self._unsaid = None if systemd.notify(**fields) else fields

    # Deadlines.

    def _look_at_deadlines(self, now: float) -> None:
        if now - self._turned_at > _GONE:
            self._forgive(now, now - self._turned_at)
        self._turned_at = now
        if self._next is not None and now >= self._next.until:
            self._abort(f"gproxy: not every process was ready within {self._next.config.start_timeout:g} s")
        for generation in self._draining:
            if now >= generation.until:
                generation.until = now + _GRACE
                generation.kill()
        if self._upgrade is not None and now >= self._upgrade.until:
            self._upgrade.kill()
        if self._current is not None and not self._stopping:
            self._look_after(self._current, now)
        if self._stopping and self._current is not None:
            self._end(self._current, now)

    def _end(self, generation: Generation, now: float) -> None:
        """While we stop: see that its processes do. The steward is the last, so that it reports the end."""
        if not generation.workers() and not self._steward_told:
            self._steward_told = True
            self._tell_steward(do="stop")
            generation.until = now + _GRACE
        if now >= generation.until:
            generation.until = now + _GRACE
            generation.kill()

    def _look_after(self, generation: Generation, now: float) -> None:
        """Fill the slots of those that have ended, and end those that don't live."""
        known = set(generation.children)
        generation.fill(now)
        for slot in generation.children.keys() - known:
            self._listen_to(generation.children[slot])
        for process in generation.children.values():
            limit = generation.config.worker_timeout if process.ready else generation.config.start_timeout
            seen = max(process.born, generation.shared.seen_alive(process.slot % (generation.config.workers + 1)))
            if now - seen >= limit:
                _end_lifeless(process, now, now - seen)
            else:
                process.asked_at = 0.0

    def _forgive(self, now: float, seconds: float) -> None:
        """We did not run for so long, and nor did they, perhaps: their time starts anew."""
        for generation in self._generations():
            generation.until += seconds
            for process in generation.children.values():
                process.born = now

    # Orders.

    def _stop(self) -> None:
        if self._stopping:
            for generation in self._generations():
                generation.hurry(time.monotonic() + _GRACE)
            return
        self._stopping = True
        if self._current is None:
            self._kill_all()
            return
        systemd.notify(STOPPING=1)
        timeout = self._current.config.drain_timeout
        sessions = sum(each.shared.active() for each in (self._current, *self._draining))
        log.info("stopping; sessions that have %g s to end: %d; asked once more, they end at once", timeout, sessions)
        if self._upgrade is not None:
            self._upgrade.stop()
            self._forget_upgrade()
        self._end_serving()
        for generation in self._draining:  # gently and by the clock of their own configuration so far
            generation.tell(do="drain", timeout=timeout, gently=False)
            generation.until = min(generation.until, self._current.until)

    def _end_serving(self) -> None:
        """Drain everything: we have been asked to stop, or somebody else serves."""
        self._stopping = True
        self._sockets.close(keep_paths=self._handed_over)
        if self._next is not None:
            self._next.kill()
            self._draining.append(self._next)  # until its processes are reaped: it must not begin to serve now
            self._next = None
        assert self._current is not None
        timeout = self._current.config.drain_timeout
        self._tell_steward(do="retire" if self._handed_over else "ending")
        self._current.tell(do="drain", timeout=timeout, gently=self._handed_over)
        self._current.until = time.monotonic() + timeout + _GRACE

    def _reload(self) -> None:
        if self._stopping:
            return
        if self._next is not None:
            self._reload_again = True
            return
        if self._load is None:
            self._stop()  # the demo, whose terminal has been closed
            return
        self._reload_is("running")
        try:
            config = self._load()
            self._sockets.open(config)
        except ConfigError as error:
            for line in error.lines():
                log.error("%s", line)
            log.error("the new configuration is not good, and the one before stays in effect")
            self._reload_is("failed", str(error))
            return
        except BindError as error:
            log.error("%s; the configuration before stays in effect", error)
            self._reload_is("failed", str(error))
            return
        if config.pid_file != self._config.pid_file:
            log.warning("pid_file stays %s until an upgrade or a restart", self._config.pid_file)
        log.info("reloading")
        systemd.notify(RELOADING=1)
        self._begin(config)

    def _asked_to_reload(self) -> None:
        """By the admin API, which may not end what has no file, as SIGHUP does."""
        if self._load is not None:
            self._signals.append(signal.SIGHUP)
            return
        self._reload_is("running")
        self._reload_is("failed", "there is no configuration file to read anew")

    def _reload_is(self, outcome: str, why: str = "") -> None:
        """For operators. A look at the file that begins is another reload."""
        number = 0 if self._last_reload is None else self._last_reload.number
        number += outcome == "running"
        self._last_reload = Reload(number, outcome, why[:_LONGEST_WHY], time.monotonic())
        self._tell_steward(do="reload", reload=self._last_reload)

    def _reload_if_asked_again(self) -> None:
        """SIGHUP came while a configuration was on its way."""
        if self._reload_again:
            self._reload_again = False
            self._reload()

    def _begin_upgrade(self) -> None:
        if self._stopping or self._upgrade is not None or self._current is None:
            return
        if os.getpid() == 1:
            log.warning("SIGUSR2: process 1 of a container can't be replaced; start another container")
            return
        log.info("upgrading: a new master starts")
        try:
            self._upgrade = Upgrade(self._sockets, time.monotonic() + self._current.config.start_timeout + _GRACE)
        except OSError as error:
            log.error("the upgrade has failed: no process could be started: %s; this one goes on", error.strerror)
            return
        self._selector.register(self._upgrade.channel, selectors.EVENT_READ, self._hear_upgrade)

    def _hear_upgrade(self) -> None:
        assert self._upgrade is not None
        ready = any(message.get("said") == "ready" for message in self._upgrade.channel.receive())
        if ready:
            log.info("process %d serves; this one ends when its sessions have", self._upgrade.pid)
            self._forget_upgrade()
            self._handed_over = True
            self._end_serving()
        elif self._upgrade.channel.over:
            self._selector.unregister(self._upgrade.channel)  # its end says more

    def _upgrade_failed(self, manner: str) -> None:
        log.error("the upgrade has failed: the new master %s; this one goes on", manner)
        self._forget_upgrade()

    def _forget_upgrade(self) -> None:
        assert self._upgrade is not None
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._upgrade.channel)
        self._upgrade.channel.close()
        self._upgrade = None

    def _kill_all(self) -> None:
        for generation in self._generations():
            generation.kill()
            for process in generation.children.values():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, 0)
            generation.children.clear()


def _end_lifeless(process: Child, now: float, silent: float) -> None:
    """Kill a process that gives no sign of life; a worker is first asked what it is at, for the log."""
    if process.slot != STEWARD and process.ready and not process.asked_at:
        process.asked_at = now
        ask_for_stack(process.pid)
    elif not process.killed and now - process.asked_at >= _ANSWER:
        process.killed = True
        stack = last_stack(process.stack)
        message = "%s, process %d, gave no sign of life for %.0f s, and is killed; " + (
            "it was at, innermost call first:" if stack else "it did not say what it was at"
        )
        log_with_stack(log, message, (process.name, process.pid, silent), stack)
        os.kill(process.pid, signal.SIGKILL)


def _manner(status: int) -> str:
    """How a process has ended."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with status {os.waitstatus_to_exitcode(status)}"


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


def _crowding(config: Config) -> list[str]:
    room = descriptor_room(config) * config.workers
    wanted = max(listener.max_connections for listener in config.listeners)
    if config.max_connections is not None:
        wanted = min(wanted, config.max_connections)
    if wanted <= room:
        return []
    return [f"max_connections is {wanted}, but the descriptors suffice for {room} sessions: see ulimit -n"]
