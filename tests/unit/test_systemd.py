"""What the service manager hears, and what it hands to us."""

import os
import socket
import subprocess
import sys
import time

import pytest

from gproxy.systemd import inherited_sockets, notify, watchdog_interval
from tests.support.child import in_child
from tests.support.proxy import TOP


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A service manager's end: it hears what we say."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield end


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


# notify


def test_a_service_manager_hears_every_field(manager):
    assert notify(READY=1, STATUS="2 workers serve", MAINPID=77)
    assert heard(manager) == ["READY=1", "STATUS=2 workers serve", "MAINPID=77"]


def test_a_reload_comes_with_the_time_that_it_began(manager):
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notify(RELOADING=1)
    reloading, stamp = heard(manager)
    assert reloading == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_an_abstract_address(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("")  # the kernel chooses a free abstract one
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + end.getsockname()[1:].decode())
        assert notify(WATCHDOG=1)
        end.setblocking(False)
        assert heard(end) == ["WATCHDOG=1"]


def test_a_value_cannot_begin_a_field_of_its_own(manager):
    assert notify(STATUS="bad:\nMAINPID=1\r\nREADY=1")
    assert heard(manager) == ["STATUS=bad: MAINPID=1 READY=1"]


def test_a_manager_that_does_not_read_makes_nobody_wait(manager):
    """Were it to wait, this test would never end."""
    assert not all(notify(WATCHDOG=1) for _ in range(100_000))
    manager.recv(4096)
    assert notify(WATCHDOG=1)


@pytest.mark.parametrize("place", ["/nowhere/at/all", "/" + "x" * 200, "@" + "x" * 200])
def test_a_manager_that_is_not_there_is_a_message_lost(monkeypatch, place):
    monkeypatch.setenv("NOTIFY_SOCKET", place)
    assert not notify(READY=1)


@pytest.mark.parametrize("place", [None, "", "vsock:2:1234"])
def test_without_a_manager_there_is_nobody_to_tell(monkeypatch, place):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if place is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", place)
    assert notify(READY=1)


# the watchdog


@pytest.fixture
def watched(monkeypatch):
    """Sets WATCHDOG_USEC and, if it is given, WATCHDOG_PID."""

    def set_both(allowed: str, pid: str | None) -> None:
        monkeypatch.setenv("WATCHDOG_USEC", allowed)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        if pid is not None:
            monkeypatch.setenv("WATCHDOG_PID", pid)

    return set_both


@pytest.mark.parametrize("named", [True, False])
def test_a_watchdog_is_fed_at_twice_its_pace(watched, named):
    watched("30000000", str(os.getpid()) if named else None)
    assert watchdog_interval() == 15.0


@pytest.mark.parametrize(("allowed", "pid"), [("30000000", "1"), ("0", None), ("", None), ("-5", None), ("x", None)])
def test_no_watchdog_of_ours(watched, allowed, pid):
    watched(allowed, pid)
    assert watchdog_interval() is None


def test_no_watchdog_at_all(monkeypatch):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert watchdog_interval() is None


# sockets handed over


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def hand_over(*sockets: socket.socket, **environ: str):
    """In a child whose descriptors from 3 on are these: what inherited_sockets() gives, in plain words."""

    def work():
        for number, sock in enumerate(sockets):
            os.dup2(os.dup(sock.fileno()), 100 + number)  # out of the way of 3, 4, ...
        for number in range(len(sockets)):
            os.dup2(100 + number, 3 + number)
        os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets)), **environ}
        found = inherited_sockets()
        return [
            (one.name, one.socket.fileno(), one.socket.getsockname(), one.socket.gettimeout(),
             os.get_inheritable(one.socket.fileno()))
            for one in found
        ]  # fmt: skip

    return in_child(work)


def test_a_listening_socket_is_taken_over(listener):
    """Non-blocking, and no program that we start gets it."""
    assert hand_over(listener) == [("", 3, listener.getsockname(), 0.0, False)]


def test_several_come_in_their_order_by_their_names(listener, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        found = hand_over(unix, listener, LISTEN_FDNAMES="admin:web")
    assert [one[:3] for one in found] == [("admin", 3, path), ("web", 4, listener.getsockname())]


def test_it_accepts(listener):
    def work():
        os.dup2(listener.fileno(), 3)
        os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        [found] = inherited_sockets()
        descriptor, _ = found.socket._accept()
        os.write(descriptor, b"hello")

    with socket.create_connection(listener.getsockname()) as client:
        in_child(work)
        client.settimeout(5)
        assert client.recv(5) == b"hello"


def test_sockets_for_another_process_are_not_ours(listener):
    assert hand_over(listener, LISTEN_PID=str(os.getpid())) == []


@pytest.mark.parametrize("environ", [{}, {"LISTEN_FDS": "0"}, {"LISTEN_FDS": "x"}, {"LISTEN_FDS": "-1"}])
def test_no_sockets(monkeypatch, environ):
    monkeypatch.setattr(os, "environ", {"LISTEN_PID": str(os.getpid()), **environ})
    assert inherited_sockets() == []


def test_no_child_takes_them_for_its_own(monkeypatch):
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "WATCHDOG_USEC": "5"}
    monkeypatch.setattr(os, "environ", environ)
    inherited_sockets()
    assert environ == {"WATCHDOG_USEC": "5"}


def test_a_socket_that_does_not_listen(listener):
    with socket.create_connection(listener.getsockname()) as client:
        said = refusal(client)
    assert said == "LISTEN_FDS: descriptor 3 (web) does not listen: use Accept=no in the socket unit"


def test_a_datagram_socket():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        said = refusal(sock)
    assert said == "LISTEN_FDS: descriptor 3 (web) is not a stream socket: use ListenStream= in the socket unit"


def test_a_descriptor_that_is_no_socket():
    with open(os.devnull) as file:
        said = refusal(file)
    assert said == "LISTEN_FDS: descriptor 3 (web) is no socket: Socket operation on non-socket"


def refusal(handed) -> str:
    """Read in a child that is a program of its own, started as systemd would."""
    code = (
        "import os; os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from gproxy.errors import GproxyError; from gproxy.systemd import inherited_sockets\n"
        "try: inherited_sockets()\n"
        "except GproxyError as error: print(error)"
    )
    shell = f'exec 3<&{handed.fileno()}; exec "$0" -c "$1"'
    environ = {"PATH": os.environ["PATH"], "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, code],
        pass_fds=[handed.fileno()], env=environ, cwd=TOP, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_descriptor_that_is_not_open():
    code = (
        "import os; os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}; os.closerange(3, 50)\n"
        "from gproxy.systemd import inherited_sockets\ninherited_sockets()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.stderr.endswith("LISTEN_FDS: descriptor 3 is no socket: Bad file descriptor\n")
