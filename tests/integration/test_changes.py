"""The load tests that change a proxy under load count what they say they count; how it fares is not judged here."""

import subprocess
import sys

import pytest

from tests.support.proxy import TOP

pytestmark = [pytest.mark.xdist_group("load"), pytest.mark.timeout(180)]

LOADTEST = TOP / "loadtest"

REPORT = """Running 2s test @ http://127.0.0.1:1/small
  1 threads and 32 connections
  53 requests in 1.50s, 7.11KB read
  Socket errors: connect 1, read 49, write 0, timeout 2
  Non-2xx or 3xx responses: 5
Requests/sec:     35.33
"""


def run(script, *arguments):
    command = [sys.executable, str(LOADTEST / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=150)


@pytest.fixture
def clients(monkeypatch):
    monkeypatch.syspath_prepend(str(LOADTEST))
    import clients

    return clients


@pytest.fixture
def wrk(monkeypatch):
    monkeypatch.syspath_prepend(str(LOADTEST))
    import wrk

    return wrk


def test_wrks_report_is_read_with_each_kind_of_error(wrk):
    summary = wrk.WrkSummary.parse(REPORT)

    assert summary == wrk.WrkSummary(53, connect=1, read=49, write=0, timeout=2, bad_status=5)
    assert summary.failures == 57
    assert summary.complaint == "connect 1, read 49, timeout 2, status 5"


def test_a_report_without_errors_has_none(wrk):
    assert wrk.WrkSummary.parse("  7 requests in 1.50s, 7.11KB read\n") == wrk.WrkSummary(7)


def test_what_is_no_report_is_refused(wrk):
    from processes import BenchError

    with pytest.raises(BenchError, match="unable to connect"):
        wrk.WrkSummary.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", "no length"),
    ],
)
def test_a_client_says_what_was_wrong_with_a_head(clients, head, kind):
    with pytest.raises(clients.RequestFailed, match=kind):
        clients.parse_head(head)


def test_a_client_takes_a_good_head(clients):
    assert clients.parse_head(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab") == clients.Head(200, 3, b"ab")


def test_a_port_that_nobody_listens_on_counts_as_refused(clients):
    from processes import free_port

    tally = clients.Tally()

    assert clients.try_fetch(free_port(), "/", tally) is None
    assert (tally.succeeded, tally.complaint) == (0, "refused 1")


def test_haproxy_and_nginx_are_changed_under_load():
    done = run("changes.py", "--quick", "--proxies", "haproxy,nginx", "--downloads", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in done.stdout.splitlines()[2:]]
    assert rows == [
        ["reloads", "haproxy", "2"],
        ["reloads", "nginx", "2"],
        ["upgrades", "nginx", "1"],
        ["downloads", "haproxy", "2"],
        ["downloads", "nginx", "2"],
    ]
    assert done.stdout.count("| 1 of 1 | 0 | nothing lost |") == 2


WRONG = [
    ["changes.py", "--rows", "nonsense"],
    ["changes.py", "--rows", "upgrades", "--proxies", "haproxy"],
    ["changes.py", "--reloads", "0"],
    ["crashes.py", "--kills", "4", "--workers", "4"],
    ["crashes.py", "--requests", "none"],
    ["scaling.py", "--rows", "nonsense"],
    ["scaling.py", "--rounds", "0"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_wrong_command_line_is_status_2(arguments):
    done = run(*arguments)

    assert done.returncode == 2
    assert "error: " in done.stderr
