"""Two minutes of loadtest/chaos.py with a seed of its own; it finds nothing, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.poll import eventually
from tests.support.proxy import TOP

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(600)]

CHAOS = str(TOP / "loadtest" / "chaos.py")
SECONDS = 500  # two minutes, and as long again for everything to come to rest on a busy machine


def chaos(*arguments, **how):
    return subprocess.Popen([sys.executable, CHAOS, *arguments], stdout=subprocess.PIPE, text=True, **how)


def test_two_minutes_with_a_new_seed(tmp_path):
    report = tmp_path / "report.json"
    with chaos("--minutes", "2", "--report", str(report)) as running:
        try:
            said, _ = running.communicate(timeout=SECONDS)
        finally:
            running.kill()
    print(said)  # the seed, and the command that repeats it
    assert running.returncode == 0, said
    told = json.loads(report.read_text())
    assert f"seed {told['seed']}" in said
    assert told["cycles"] >= 2
    assert told["violations"] == []
    assert told["checked"].keys() >= {"clients", "ledger", "counters", "totals", "at rest", "holdings", "end"}
    assert told["curve"]


def processes_in(directory):
    """Those whose temporary files would be there."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={directory}\0".encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_of_it(tmp_path, number):
    with chaos("--minutes", "10", env=os.environ | {"TMPDIR": str(tmp_path)}) as running:
        try:
            eventually(lambda: len(processes_in(tmp_path)) > 8, 60, "backends and gproxy run")
            running.send_signal(number)
            assert running.wait(60) in (143, 130)
        finally:
            running.kill()
    eventually(lambda: not processes_in(tmp_path), 20, "nothing is left")
    assert list(tmp_path.iterdir()) == []
