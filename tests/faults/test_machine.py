"""What the machine does: a full disk under the access log, a clock that jumps. Rows of docs/reliability.md."""

import signal
import time
from pathlib import Path

import pytest

from tests.support.ends import TIMEOUT
from tests.support.faulty_client import ask
from tests.support.http_wire import Wire, read_response
from tests.support.origin import Origin
from tests.support.poll import eventually

APP = 'app: {health_check: {type: http, path: /, interval: 200ms, fall: 1}, backends: [{name: b1, address: "${B1}"}]}'
DAY = 86400  # seconds


@pytest.mark.fault("the disk under the access log is full")
def test_disk_full(faulty, reliability_row, tmp_path):
    target = tmp_path / "access.log"
    target.symlink_to("/dev/full")
    root = f"log: {{access: {target}}}\n"
    with Origin("http", "b1") as b1, faulty(APP, {"B1": b1.address}, root=root) as (proxy, bystander):
        answers = [ask(proxy) for _ in range(50)]
        proxy.wait_for_log("No space left on device")
        answers += [ask(proxy) for _ in range(50)]
        assert {each.status for each in answers} == {200}
        target.unlink()
        proxy.signal(signal.SIGUSR1)
        proxy.wait_for_log("access.log can be written to again")
        assert ask(proxy).status == 200
        eventually(lambda: target.exists() and " web app/b1 " in target.read_text(), TIMEOUT, "lines come again")
        assert proxy.log().count("No space left on device") == 1
    reliability_row(
        sees="200",
        took=max(each.took for each in answers),
        others=bystander.verdict(),
        heals="lines are lost and counted in `log_dropped` until there is room, or another file and SIGUSR1",
    )


class WallClock:
    """That of a process tree and nobody else's, by libfaketime; the monotonic clock stays what it is."""

    def __init__(self, directory):
        self._file = directory / "faketime"
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        assert libraries, "libfaketime is missing: apt-get install faketime, or sh etc/bootstrap.sh test"
        self.environ = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(0)

    def jump(self, days):
        new = self._file.with_suffix(".new")
        new.write_text(f"{days:+d}d\n")
        new.replace(self._file)


def year_of(wire):
    """That of the Date in the answer to the next request."""
    wire.sock.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
    response = read_response(wire)
    assert response
    assert response.status == 200
    [date] = response.fields[b"date"]
    return int(date.split()[3])


@pytest.mark.fault("the wall clock jumps ten years ahead, then twenty back")
def test_clock_jumps(faulty, reliability_row, tmp_path):
    clock = WallClock(tmp_path)
    root = "load_balancer: {request_head_timeout: 500ms}\n"
    with (
        Origin("http", "b1") as b1,
        faulty(APP, {"B1": b1.address} | clock.environ, root=root) as (proxy, bystander),
        proxy.connect("web") as client,
    ):
        wire = Wire(client)
        now = year_of(wire)
        slowest = 0.0
        for days, year in ((3653, now + 10), (-3653, now - 10)):
            clock.jump(days)
            eventually(lambda year=year: year_of(wire) == year, TIMEOUT, f"it is {year}")  # over one connection
            with proxy.connect("web") as slow:
                began = time.monotonic()
                slow.sendall(b"GET /")
                assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
                slowest = max(slowest, time.monotonic() - began)
            assert ask(proxy).status == 200
        reused = [line.split()[10] for line in proxy.access() if " web app/b1 " in line]
        assert reused.count("fresh") <= 2  # no pooled connection was too old for the clock
        assert "is down" not in proxy.log()
        b1.kill()
        proxy.wait_for_log("backend app/b1 is down")
    reliability_row(
        sees="nothing: its connection lasts; only `Date` and the logs tell the new time",
        took=slowest,
        bound="`request_head_timeout` 0.5 s, which lasts as long as ever",
        others=bystander.verdict(),
        heals="all waits go by the monotonic clock",
    )
