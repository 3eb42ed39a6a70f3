"""loadtest/compare.py measures what it says it does. How fast anything is, is not judged here."""

import json
import math
import subprocess
import sys

import pytest

from tests.support.proxy import TOP

pytestmark = [pytest.mark.xdist_group("load"), pytest.mark.timeout(300)]

COMPARE = TOP / "loadtest" / "compare.py"
PROXIES = ("haproxy", "nginx", "gproxy")
QUICK = ["--quick", "--rows", "message,idle", "--idle-sessions", "300"]


def compare(*arguments):
    return subprocess.run([sys.executable, str(COMPARE), *arguments], capture_output=True, text=True, timeout=90)


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


def check(proxy):
    (sample,) = proxy["rounds"]
    assert sample["work"] > 0
    assert sample["seconds"] > 0
    assert math.isfinite(sample["total"])
    assert proxy["median"] == sample["cost"]
    assert proxy["verdict"] in ("-", "goal", "must", "OVER")


@pytest.mark.parametrize("arguments", [["--rows", "nonsense"], ["--proxies", "haproxy,x"], ["--rounds", "0"], ["more"]])
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
    assert "apt-get install" in done.stderr


# compare.py adds /usr/sbin to PATH, so an empty PATH is not enough everywhere: no tool is found at all.
RUN_WITHOUT_TOOLS = """
import runpy, shutil, sys
shutil.which = lambda name, *rest, **options: None
sys.path.insert(0, sys.argv[1].rpartition("/")[0])
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
