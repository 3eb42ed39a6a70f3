"""loadtest/compare.py measures what it says it does. How fast anything is, is not judged here."""

import json
import math
import shlex
import subprocess
import sys

import pytest

from tests.support.proxy import TOP

pytestmark = [pytest.mark.xdist_group("load"), pytest.mark.timeout(300)]

COMPARE = TOP / "loadtest" / "compare.py"
PROXIES = ("haproxy", "nginx", "gproxy")
QUICK = ["--quick", "--rows", "message,idle", "--idle-sessions", "300"]
HTTP_ROWS = ["http-browser-log", "http-varied", "http-connection", "http-bulk", "http-caddy"]


def compare(*arguments):
    return subprocess.run([sys.executable, str(COMPARE), *arguments], capture_output=True, text=True, timeout=200)


def test_it_measures_three_proxies_and_writes_a_table_and_json(tmp_path):
    target = tmp_path / "result.json"

    done = compare(*QUICK, "--json", str(target))

    assert done.returncode in (0, 1), done.stderr
    assert "INVALID" not in done.stderr
    rows = json.loads(target.read_text())
    assert [row["row"] for row in rows] == ["message", "idle"]
    for row in rows:
        assert tuple(row["proxies"]) == PROXIES
        for name in PROXIES:
            assert f"| {row['unit']} | {name} |" in done.stdout
            check(row["proxies"][name])
    for name in PROXIES:
        (sample,) = rows[0]["proxies"][name]["rounds"]
        assert sample["cost"] == pytest.approx(1e6 * sample["total"] / sample["work"])
        assert rows[1]["proxies"][name]["rounds"][0]["work"] == 300


def test_it_measures_http_rows(tmp_path):
    target = tmp_path / "result.json"

    done = compare("--quick", "--rows", ",".join(HTTP_ROWS), "--json", str(target))

    assert done.returncode in (0, 1), done.stderr
    assert "INVALID" not in done.stderr
    rows = {row["row"]: row for row in json.loads(target.read_text())}
    assert list(rows) == HTTP_ROWS
    assert tuple(rows["http-caddy"]["proxies"]) == ("caddy", "nginx", "gproxy")
    for row in rows.values():
        assert row["proxies"][row["baseline"]]["ratio"] == 1
        for proxy in row["proxies"].values():
            check(proxy)
    assert rows["http-caddy"]["proxies"]["gproxy"]["verdict"] != "-"
    assert rows["http-varied"]["proxies"]["gproxy"]["verdict"] == "-"


def check(proxy):
    (sample,) = proxy["rounds"]
    assert sample["work"] > 0
    assert sample["seconds"] > 0
    assert math.isfinite(sample["total"])
    assert proxy["median"] == sample["cost"]
    assert proxy["verdict"] in ("-", "goal", "must", "OVER")


def test_it_measures_the_rows_and_proxies_that_are_named():
    done = compare("--quick", "--rows", "http-keepalive*", "--proxies", "haproxy", "--json", "-")

    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["row"] for row in rows] == ["http-keepalive", "http-keepalive-log"]
    for row in rows:
        assert tuple(row["proxies"]) == ("haproxy",)
        check(row["proxies"]["haproxy"])


@pytest.mark.parametrize(
    ("row", "change", "complaint"),
    [
        ("http-connection", "s/reuse: safe/reuse: never/", "not pooled"),
        ("http-keepalive-log", "s/access: .*}/access: off}/", "no access log"),
    ],
)
def test_a_proxy_that_does_less_than_asked_is_invalid(row, change, complaint):
    run = f'sed -i "{change}" "$0" && exec {shlex.quote(sys.executable)} -m gproxy "$0"'

    done = compare("--quick", "--rows", row, "--proxies", "gproxy", "--gproxy", shlex.join(["sh", "-c", run]))

    assert done.returncode == 1
    assert complaint in done.stderr


WRONG = [
    ["--rows", "nonsense"],
    ["--rows", "nonsense-*"],
    ["--rows", "message", "--proxies", "caddy"],
    ["--proxies", "haproxy,x"],
    ["--rounds", "0"],
    ["more"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_wrong_command_line_is_status_2(arguments):
    done = compare(*arguments)

    assert done.returncode == 2
    assert "error: " in done.stderr


def test_a_missing_tool_is_status_2_and_says_what_to_install():
    done = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT_TOOLS, str(COMPARE)], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 2
    assert "wrk" in done.stderr
    assert "caddy" in done.stderr
    assert "apt-get install" in done.stderr


# compare.py adds /usr/sbin to PATH, so an empty PATH is not enough everywhere: no tool is found at all.
RUN_WITHOUT_TOOLS = """
import runpy, shutil, sys
shutil.which = lambda name, *rest, **options: None
sys.path.insert(0, sys.argv[1].rpartition("/")[0])
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
