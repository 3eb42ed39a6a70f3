"""The exit statuses and the signals of docs/operations.md: each row of the two tables has a test here, and each
test a row."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from tests.support.ends import TIMEOUT, address, black_hole, is_reset, listening, read, read_to_end
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import START_TIMEOUT, TOP, Gproxy, command_environ, gproxy, processes_of

CONFIG = """
workers: 2
load_balancer: {drain_timeout: 1h}
pid_file: gproxy.pid
log: {access: access.log}
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {health_check: {timeout: 1h}, backends: [{name: b1, address: "${B1:-127.0.0.1:1}"}]}}
"""
UNCHECKED = CONFIG.replace("{timeout: 1h}", "{type: none}")
CLIENTS = 30  # of two workers, each serves some
STOPS = (signal.SIGTERM, signal.SIGINT)


def table(heading):
    """The second cell of each row by its first one."""
    section = (TOP / "docs/operations.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    return dict(rows[2:])


STATUSES, SIGNALS = table("Exit statuses"), table("Signals")
status_tests, signal_tests = {}, {}


def status(when):
    """The test of a row of statuses: it returns what gproxy ended with."""
    return lambda test: status_tests.setdefault(when, test)


def row(name):
    """The test of a row of signals."""
    return lambda test: signal_tests.setdefault(name, test)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fresh():
    """A directory for one more gproxy."""
    return Path(tempfile.mkdtemp(dir=Path.cwd()))


@contextlib.contextmanager
def serving():
    """A gproxy that is gone in the end, with the master that has taken over from it, if one has."""
    with Origin("echo") as origin, Gproxy(fresh(), CONFIG, environ={"B1": origin.address}) as proxy:
        try:
            yield proxy
        finally:
            with contextlib.suppress(FileNotFoundError):
                heir = pid_in_file(proxy)
                if heir != proxy.process.pid:
                    os.kill(heir, signal.SIGKILL)


def pid_in_file(proxy):
    return int((proxy.config.parent / "gproxy.pid").read_text())


@contextlib.contextmanager
def starting(text=CONFIG):
    """A gproxy whose first check hangs: all of its processes are there, and none is ready."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(black_hole())
        proxy = Gproxy(fresh(), text, environ={"B1": silent})
        proxy.spawn()
        stack.push(proxy)
        yield proxy


def has_begun(proxy):
    """Its children are there, by their own names."""
    return eventually(lambda: {"steward", "worker0", "worker1"} <= set(proxy.processes()), TIMEOUT)


def echoes(client):
    client.sendall(b"word")
    return read(client, 4) == b"word"


def is_refused(proxy):
    try:
        proxy.connect("web").close()
    except ConnectionRefusedError:
        return True
    return False


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends_with(text, *, said, arguments=()):
    """The status of a gproxy that can't start with this configuration; it says why, in its last line.

    It has come to the end of a pipe that each process of it holds: none is left.
    """
    Path("gproxy.yaml").write_text(textwrap.dedent(text))
    done = gproxy(Path.cwd(), *arguments, "gproxy.yaml")
    assert re.search(said, done.stderr.splitlines()[-1]), done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode


def agreed(statuses):
    """The one status of several ways to end."""
    [one] = set(statuses)
    return one


# Exit statuses.


@status("SIGTERM or SIGINT")
def _():
    found = []
    for number in STOPS:
        with serving() as proxy:
            proxy.signal(number)
            found.append(proxy.wait())
        with starting() as proxy:
            has_begun(proxy)
            proxy.signal(number)
            found.append(proxy.wait())
    return agreed(found)


@status("an upgrade: the new master serves, and the last session here has ended")
def _():
    with serving() as proxy:
        with proxy.connect("web") as client:
            assert echoes(client)
            upgrade(proxy)
            assert echoes(client)
            assert proxy.process.poll() is None
        return proxy.wait()


@status("`-t` with a good configuration, `--help`, `--version`")
def _():
    Path("good.yaml").write_text(CONFIG)
    return agreed(gproxy(Path.cwd(), *each).returncode for each in (["-t", "good.yaml"], ["--help"], ["--version"]))


@status("at the start, a worker or the steward was killed, or ended by a defect")
def _():
    found = []
    for name, called in (("worker1", "worker 1"), ("steward", "steward")):
        with starting() as proxy:
            has_begun(proxy)
            children = proxy.processes()
            os.kill(children[name], signal.SIGKILL)
            found.append(proxy.wait())
            said = proxy.log().splitlines()[-1]
            assert said == f"gproxy: {called} was killed by SIGKILL before it was ready"
            assert not any(map(lives, children.values()))
    done = with_a_defect("gproxy.child.Worker")
    assert re.fullmatch(r"gproxy: worker . ended with status 1 before it was ready", done.stderr.splitlines()[-1])
    assert "TypeError" in done.stderr
    return agreed([*found, done.returncode])


@status("at the start, not every process was ready within `start_timeout`")
def _():
    with starting(CONFIG + "start_timeout: 500ms\n") as proxy:
        found = proxy.wait()
        assert proxy.log().splitlines()[-1] == "gproxy: not every process was ready within 0.5 s"
        return found


@status("a defect of gproxy's, with a traceback: please report it")
def _():
    done = with_a_defect("gproxy.supervisor.Supervisor._promote")  # when every process is there already
    assert re.search(r"^Traceback .*^TypeError: 'NoneType' object is not callable$", done.stderr, re.DOTALL | re.M)
    return done.returncode


def with_a_defect(what):
    """Run a gproxy in which a name of its code stands for nothing, until all of its processes have ended."""
    Path("gproxy.yaml").write_text(UNCHECKED)
    program = f"""
import sys
import gproxy.supervisor
from gproxy.cli import main
{what} = None
sys.exit(main(["gproxy.yaml"]))
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        env=command_environ(), capture_output=True, text=True, timeout=START_TIMEOUT, check=False,
    )  # fmt: skip


@status("a wrong command line")
def _():
    return agreed(gproxy(Path.cwd(), *arguments).returncode for arguments in ([], ["--nonsense"], ["a", "b"]))


@status("a configuration that can't be used, or can't be read; `-t` too")
def _():
    wrong = CONFIG.replace("upstream: app", "upstream: ap")
    found = [ends_with(wrong, said="there is no upstream 'ap'", arguments=each) for each in ([], ["-t"])]
    found += [gproxy(Path.cwd(), *each, "missing.yaml").returncode for each in ([], ["-t"])]
    return agreed(found)


@status("a Python policy that can't be loaded; `-t` too")
def _():
    text = UNCHECKED.replace("backends:", 'balance: {python: "nowhere:choose"}, backends:')
    return agreed(ends_with(text, said="cannot load nowhere:choose", arguments=each) for each in ([], ["-t"]))


@status("an address that can't be had")
def _():
    with listening() as other:
        said = f"gproxy: cannot listen on {address(other)}: address already in use"
        return ends_with(UNCHECKED.replace("127.0.0.1:0", address(other)), said=said)


@status("an access log that can't be opened")
def _():
    return ends_with(UNCHECKED.replace("access.log", "/no/such/log"), said="gproxy: /no/such/log: can't be opened")


@status("a pid file that can't be written")
def _():
    return ends_with(UNCHECKED.replace("gproxy.pid", "no/pid"), said="gproxy: cannot write the pid file .*/no/pid: ")


@status("a `user` that gproxy can't become")
def _():
    text = UNCHECKED + "user: 12345\ngroup: 12345\n"
    if os.geteuid() != 0:
        return ends_with(text, said="user")
    Path("gproxy.yaml").write_text(text)
    bound = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid"]  # root in all but that
    done = subprocess.run(
        [*bound, sys.executable, "-m", "gproxy", "gproxy.yaml"],
        env=command_environ(), capture_output=True, text=True, timeout=START_TIMEOUT, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith("gproxy: cannot run as user 12345 (uid 12345, gid 12345): ")
    return done.returncode


@status("a socket of systemd's that is not one to accept from")
def _():
    Path("gproxy.yaml").write_text(UNCHECKED)
    command = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3</dev/null'
    done = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-m", "gproxy", "gproxy.yaml"],
        env=command_environ(), capture_output=True, text=True, timeout=START_TIMEOUT, check=False,
    )  # fmt: skip
    assert "gproxy: LISTEN_FDS: descriptor 3 is no socket" in done.stderr.splitlines()[-1]
    return done.returncode


# Signals.


@row("SIGTERM, SIGINT")
def _():
    for number in STOPS:
        with serving() as proxy, proxy.connect("web") as client:
            assert echoes(client)
            proxy.signal(number)
            eventually(lambda proxy=proxy: is_refused(proxy), what="new connections are refused")
            assert echoes(client)
            client.shutdown(socket.SHUT_WR)
            assert read_to_end(client) == b""
            assert proxy.wait() == 0


@row("a second one of these")
def _():
    for number in STOPS:
        with serving() as proxy, proxy.connect("web") as client:
            assert echoes(client)
            proxy.signal(STOPS[0])
            proxy.wait_for_log("stopping; sessions that have 3600 s to end: 1")
            proxy.signal(number)
            assert proxy.wait() == 0
            assert is_reset(client)


@row("one of these before it is ready")
def _():
    for number in STOPS:
        with starting() as proxy:
            has_begun(proxy)
            proxy.signal(number)
            assert proxy.wait() == 0
            assert proxy.log().splitlines()[-1].endswith("stopped before it was ready")


@row("SIGHUP")
def _():
    with serving() as proxy:
        proxy.config.write_text(proxy.config.read_text().replace("workers: 2", "workers: 3"))
        proxy.signal(signal.SIGHUP)
        proxy.wait_for_log("is ready: the new configuration is in effect")
        eventually(lambda: set(proxy.processes()) == {"steward", "worker0", "worker1", "worker2"})


@row("SIGUSR1")
def _():
    with serving() as proxy:
        path, moved = proxy.config.parent / "access.log", proxy.config.parent / "access.log.1"
        path.rename(moved)
        proxy.signal(signal.SIGUSR1)
        workers = [pid for name, pid in proxy.processes().items() if name != "steward"]
        assert len(workers) == 2
        eventually(lambda: all(writes_to(pid, path) and not writes_to(pid, moved) for pid in workers))
        clients = [name_of_a_client(proxy) for _ in range(CLIENTS)]
        assert proxy.stop() == 0
        assert sorted(line.split()[0] for line in path.read_text().splitlines()) == sorted(clients)
        assert moved.read_text() == ""


def writes_to(pid, path):
    links = [os.path.realpath(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return str(path) in links


def name_of_a_client(proxy):
    with proxy.connect("web") as client:
        assert echoes(client)
        return address(client)


@row("SIGUSR2")
def _():
    with serving() as proxy:
        new = upgrade(proxy)
        assert proxy.wait() == 0
        assert set(processes_of(new)) == {"steward", "worker0", "worker1"}
        with proxy.connect("web") as client:
            assert echoes(client)


def upgrade(proxy):
    """The new master's process id, once the old one knows."""
    proxy.signal(signal.SIGUSR2)
    said = proxy.wait_for_log(r"process \d+ serves; this one ends when its sessions have")
    pid = int(said.split()[1])
    assert pid_in_file(proxy) == pid
    return pid


@row("any of these, sent to a worker or the steward")
def _():
    with serving() as proxy, proxy.connect("web") as client:
        assert echoes(client)
        before, log = proxy.processes(), proxy.log()
        for child in before.values():
            for number in (*STOPS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                os.kill(child, number)
        assert echoes(client)
        assert all(name_of_a_client(proxy) for _ in range(CLIENTS))
        assert proxy.processes() == before
        assert proxy.log() == log


@row("SIGKILL, sent to the master, or any other end of it")
def _():
    with serving() as proxy, proxy.connect("web") as client:
        assert echoes(client)
        children = proxy.processes().values()
        proxy.signal(signal.SIGKILL)
        assert proxy.wait() == -signal.SIGKILL
        eventually(lambda: sum(map(lives, children)) == 1, TIMEOUT, "who has no session has ended")
        assert is_refused(proxy)
        assert echoes(client)
        client.close()
        eventually(lambda: not any(map(lives, children)), TIMEOUT, "all have ended")


@row("SIGKILL, sent to a worker or the steward")
def _():
    with serving() as proxy:
        before = proxy.processes()
        for victim in before.values():
            os.kill(victim, signal.SIGKILL)
        eventually(lambda: have_heirs(before, proxy.processes()), TIMEOUT, "each has another one in its place")
        assert all(name_of_a_client(proxy) for _ in range(CLIENTS))


def have_heirs(before, now):
    return now.keys() == before.keys() and not set(now.values()) & set(before.values())


# The tables, and the tests above: parametrized down here, where both are known.


@pytest.mark.parametrize("when", dict.fromkeys([*STATUSES, *status_tests]))
def test_exit_status(when):
    assert when in STATUSES, "no row of docs/operations.md says so"
    assert when in status_tests, "this row of docs/operations.md has no test"
    assert status_tests[when]() == int(STATUSES[when])


@pytest.mark.parametrize("name", dict.fromkeys([*SIGNALS, *signal_tests]))
def test_signal(name):
    assert name in SIGNALS, "no row of docs/operations.md says so"
    assert name in signal_tests, "this row of docs/operations.md has no test"
    signal_tests[name]()
