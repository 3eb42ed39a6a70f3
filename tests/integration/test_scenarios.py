"""loadtest/scenarios.py: each scenario runs, its objectives set the exit status, and nothing is left after it.

Times are never judged here: the limits are far beyond what any machine needs.
"""

import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.support.ends import TIMEOUT
from tests.support.family import family
from tests.support.poll import eventually
from tests.support.proxy import TOP, command_environ

pytestmark = [pytest.mark.xdist_group("scenarios"), pytest.mark.timeout(180)]

PATIENT = ["--p50=60000", "--p95=60000", "--p99=60000"]
RUN = 120.0  # seconds, for a run of a few


def command(*arguments):
    return [sys.executable, str(TOP / "loadtest/scenarios.py"), *arguments]


def started(directory, *arguments):
    return subprocess.Popen(
        command(*arguments), cwd=directory, env=command_environ({"TMPDIR": str(directory)}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def run(directory, *arguments):
    """Exit status and output."""
    with started(directory, *arguments) as process:
        try:
            said, _ = process.communicate(timeout=RUN)
        finally:
            process.kill()
    return process.returncode, said


def test_its_help(tmp_path):
    status, said = run(tmp_path, "--help")
    assert (status, "50 % are at least as fast" in said) == (0, True)


@pytest.mark.parametrize(
    ("scenario", "seconds", "wanted"),
    [
        ("steady", 2, ["page"]),
        ("browser", 3, ["page", "embedded"]),
        ("chat", 3, ["join", "message"]),
        ("rawtcp", 2, ["connect", "message", "half-close"]),
        ("slow", 3, ["page", "slow head", "slow upload", "slow download", "head without end (408)"]),
        ("spike", 3, ["page"]),
        ("staircase", 3, ["page"]),
        ("failover", 8, ["page", "kill b2", "backend site/b2 is down", "revive b2", "backend site/b2 is up"]),
    ],
)
def test_a_scenario_keeps_its_objectives_and_writes_a_report(scenario, seconds, wanted, tmp_path):
    status, said = run(tmp_path, scenario, "--users=10", "--spawn-rate=10", f"--seconds={seconds}", *PATIENT)

    assert status == 0, said
    assert "MISSED" not in said
    for text in wanted:
        assert text in said
    report = tmp_path / f"locust-{scenario}.html"
    assert "<title>Locust" in report.read_text()
    assert list(tmp_path.iterdir()) == [report]
    assert family(tmp_path) == set()


def test_a_master_and_two_workers_share_the_users(tmp_path):
    port = f"--master-port={free_port()}"
    workers = [started(tmp_path, "steady", "--worker", port, "--", "--loglevel=DEBUG") for _ in range(2)]
    shared = ["--master", "--expect-workers=2", port, "--users=10", "--spawn-rate=10", "--seconds=3"]

    status, said = run(tmp_path, "steady", *shared, *PATIENT)
    logs = [worker.communicate(timeout=TIMEOUT)[0] for worker in workers]

    assert status == 0, said
    assert requests(said) > 0
    assert (tmp_path / "locust-steady.html").exists()
    for worker, log in zip(workers, logs, strict=True):
        assert worker.returncode == 0, log
        assert '{"Reader": 5}' in log


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def requests(said):
    """How many there were, from Locust's first table."""
    return int(re.search(r"Aggregated +(\d+)", said)[1])


@pytest.mark.parametrize(
    ("arguments", "missed"),
    [
        (["--p95=-1"], "p95"),
        (["--", "--host=http://127.0.0.1:1"], "errors"),
        (["--", "--host=http://127.0.0.1:1", "--users=0"], "errors"),
    ],
    ids=["too slow", "errors", "no request"],
)
def test_a_missed_objective_is_status_1(arguments, missed, tmp_path):
    status, said = run(tmp_path, "steady", "--users=2", "--seconds=1", *arguments)

    assert status == 1, said
    assert re.search(rf"^ +{missed} .*: MISSED$", said, re.MULTILINE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_nothing_is_left_when_it_is_ended_early(number, tmp_path):
    process = started(tmp_path, "steady", "--users=2", "--seconds=60")
    # b1 to b3, gproxy with a worker and a steward, Locust, and the command itself
    eventually(lambda: len(family(tmp_path)) >= 8, 3 * TIMEOUT, "everything runs")

    process.send_signal(number)

    eventually(lambda: not family(tmp_path), 3 * TIMEOUT, "every process ends")
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == (143 if number == signal.SIGTERM else -number)


@pytest.mark.parametrize("arguments", [["nonsense"], ["steady", "--users=0"], ["steady", "--master", "--worker"], []])
def test_a_wrong_command_line_is_status_2(arguments, tmp_path):
    status, said = run(tmp_path, *arguments)

    assert status == 2
    assert "error: " in said


def test_help_names_all_scenarios(tmp_path):
    status, said = run(tmp_path, "--help")

    assert status == 0
    for file in (TOP / "loadtest/locustfiles").glob("*.py"):
        if "\nhold(" in file.read_text():
            assert f"\n    {file.stem} " in said
