"""The keys of the processes: how many, whom they run as, how long they may be silent."""

import os
import pwd

import pytest

from gproxy.config import parse
from gproxy.core.settings import Config, Identity
from gproxy.errors import ConfigError

GOOD = "listeners: [{bind: 'a:1', upstream: app}]\nupstreams: {app: {backends: ['b:1']}}\n"


def read(text: str) -> Config:
    return parse(GOOD + text, "f.yaml", {})


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value.lines()


@pytest.fixture
def root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def daemon(monkeypatch):
    """We are that user, in a group that is not its primary one."""
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("daemon").pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: 77)


# workers


@pytest.mark.parametrize(("text", "workers"), [("1", 1), ("256", 256)])
def test_a_number_of_workers(text, workers):
    assert read(f"workers: {text}").workers == workers


def test_auto_is_a_worker_for_each_core_that_we_may_run_on(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2, 5})
    assert read("workers: auto").workers == 3


def test_auto_stays_within_bounds(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(1000)))
    assert read("workers: auto").workers == 256


@pytest.mark.parametrize(("text", "most"), [("", None), ("max_connections: 1", 1), ("maxConnections: 1000000", 10**6)])
def test_sessions_of_all_listeners(text, most):
    assert read(text).max_connections == most


@pytest.mark.parametrize("text", ["0", "1000001", "none"])
def test_sessions_that_cannot_be(text):
    assert problems(f"max_connections: {text}") == [
        f"f.yaml:3: max_connections: must be a whole number from 1 to 1000000, not '{text}'"
    ]


@pytest.mark.parametrize("text", ["0", "257", "-1", "true", "Auto"])
def test_a_number_of_workers_that_cannot_be(text):
    assert problems(f"workers: {text}") == [
        f"f.yaml:3: workers: must be a whole number from 1 to 256, not '{text}'; auto is one for each core"
    ]


# user and group


@pytest.mark.usefixtures("root")
def test_a_user_comes_with_its_primary_group():
    entry = pwd.getpwnam("daemon")
    assert read("user: daemon").identity == Identity(entry.pw_uid, entry.pw_gid, "daemon")


@pytest.mark.usefixtures("root")
def test_a_user_by_its_id_is_the_same():
    assert read(f"user: {pwd.getpwnam('daemon').pw_uid}") == read("user: daemon")


@pytest.mark.usefixtures("root")
def test_another_group():
    assert read("user: daemon\ngroup: 54321").identity == Identity(pwd.getpwnam("daemon").pw_uid, 54321, "daemon")


@pytest.mark.usefixtures("root")
def test_an_id_without_a_name_needs_a_group():
    assert read("user: 54321\ngroup: 54322").identity == Identity(54321, 54322, "54321")
    assert problems("user: 54321") == [
        "f.yaml:3: user: user 54321 has no name on this system, and so no primary group: needs the key 'group'"
    ]


def test_without_a_user_we_stay_who_we_are():
    assert read("").identity is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("user: nobody-here", "user: there is no user 'nobody-here' on this system"),
        ("user: daemon\ngroup: nobody-here", "group: there is no group 'nobody-here' on this system"),
        ("user: ''", "user: must be a name or an id"),
        ("user: 4294967295", "user: must be a name, or an id from 0 to 4294967294, not '4294967295'"),
        ("user: 007", "user: must be a name, or an id from 0 to 4294967294, not '007'"),
        ("group: daemon", "group: needs the key 'user' beside it"),
    ],
)
@pytest.mark.usefixtures("root")
def test_users_and_groups_that_cannot_be(text, problem):
    line = 3 + text.count("\n")
    assert problems(text) == [f"f.yaml:{line}: {problem}"]


@pytest.mark.usefixtures("daemon")
def test_who_is_not_root_may_name_itself():
    """And keeps the group that it has."""
    uid = pwd.getpwnam("daemon").pw_uid
    assert read("user: daemon").identity == read("user: daemon\ngroup: 77").identity == Identity(uid, 77, "daemon")


@pytest.mark.usefixtures("daemon")
def test_who_is_not_root_cannot_become_another():
    assert problems("user: root") == [
        "f.yaml:3: user: only root can run as 'root'; leave it out, or start gproxy as root"
    ]
    assert problems("user: daemon\ngroup: 78") == [
        "f.yaml:4: group: only root can run as another group; leave it out, or start gproxy as root"
    ]


# the rest


def test_the_defaults_of_a_process():
    found = read("")
    assert (found.workers, found.pid_file) == (1, None)
    assert (found.hub_watchdog, found.worker_timeout, found.start_timeout) == (1.0, 30.0, 30.0)


def test_the_keys_of_a_process():
    found = read("pidFile: run/gproxy.pid\nhub_watchdog: 200ms\nworkerTimeout: 2s\nstart_timeout: 1m")
    assert found.pid_file == "run/gproxy.pid"
    assert (found.hub_watchdog, found.worker_timeout, found.start_timeout) == (0.2, 2.0, 60.0)


@pytest.mark.parametrize("text", ["off", "true", "''", "/run/"])
def test_no_path_for_a_pid_file(text):
    bare = text.strip("'")
    assert problems(f"pid_file: {text}") == [
        f"f.yaml:3: pid_file: must be the path of a file, not '{bare}'; leave it out for none"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("worker_timeout: 1", "f.yaml:3: worker_timeout: worker_timeout (1s) must be longer than hub_watchdog (1s)"),
        ("hub_watchdog: 1m", "f.yaml:3: hub_watchdog: worker_timeout (30s) must be longer than hub_watchdog (60s)"),
        ("hub_watchdog: 60\nworker_timeout: x", "f.yaml:4: worker_timeout: must be a duration such as 5, 500ms, 5s, "
                                               "2m, 1h or 1d, not 'x'"),
    ],
)  # fmt: skip
def test_a_worker_is_not_killed_before_it_could_be_reported(text, problem):
    assert problems(text) == [problem]
