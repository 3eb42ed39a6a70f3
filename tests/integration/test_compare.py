"""loadtest/compare.py measures what it says it does. How fast anything is, is not judged here."""

import json
import math
import re
import shlex
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.support.proxy import TOP

pytestmark = [pytest.mark.xdist_group("load"), pytest.mark.timeout(300)]

COMPARE = TOP / "loadtest" / "compare.py"
PROXIES = ("haproxy", "nginx", "pen", "gevent", "asyncio", "gproxy")
QUICK = ["--quick", "--rows", "message,idle", "--idle-sessions", "300", "--proxies", ",".join(PROXIES)]
BEGIN = "<!-- Between these marks compare.py --write has the word. -->"
END = "<!-- The word is yours again. -->"
HTTP_ROWS = ["http-browser-log", "http-varied", "http-connection", "http-bulk", "http-caddy"]


def compare(*arguments):
    return subprocess.run([sys.executable, str(COMPARE), *arguments], capture_output=True, text=True, timeout=200)


def test_it_measures_the_proxies_and_writes_a_table_and_json(tmp_path):
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


PERCENTILES = ["p50", "p90", "p99", "p999", "max"]


def test_it_measures_latency_at_a_fixed_rate_and_many_connections():
    done = compare(
        "--quick", "--rows", "many,http-churn,latency-1000", "--proxies", "direct,gproxy", "--idle-sessions", "300",
        "--json", "-",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    rows = {row["row"]: row["proxies"] for row in json.loads(done.stdout)}
    assert {name: list(proxies) for name, proxies in rows.items()} == {
        "many": ["gproxy"],
        "latency-1000": ["direct", "gproxy"],
        "http-churn": ["gproxy"],
    }
    for name, requests in (("many", 1000), ("http-churn", 500), ("latency-1000", 1000)):
        for proxy in rows[name].values():
            check(proxy)
            (sample,) = proxy["rounds"]
            assert sample["work"] == requests
            figures = [sample["figures"][name] for name in PERCENTILES]
            assert figures == sorted(figures)
            assert figures[0] > 0


def test_proxy_py_takes_part():
    done = compare("--quick", "--rows", "connection", "--proxies", "proxy.py", "--json", "-")

    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    check(row["proxies"]["proxy.py"])


def test_it_writes_tables_plots_and_configurations_into_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    rows = "message,latency-1000,workers-2"

    done = compare("--quick", "--rows", rows, "--proxies", "direct,haproxy,gproxy", "--write", str(page))

    assert done.returncode in (0, 1), done.stderr
    assert "INVALID" not in done.stderr
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n\nafter\n")
    assert "old" not in text
    for said in (
        "- processor: ",
        "HAProxy 2.",
        "gevent ",
        "| tcp message |",
        "| tcp, 1000 requests/s | direct |",
        "| 2 |",
    ):
        assert said in text
    for name in re.findall(r"\]\((page/\w+\.svg)\)", text):
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")
    files = sorted(file.name for file in (tmp_path / "page").iterdir())
    assert files == ["configurations.md", "costs.svg", "latency.svg", "workers.svg"]
    told = (tmp_path / "page/configurations.md").read_text()
    assert "message, latency-1000:\n" in told
    assert "bind 127.0.0.1:P1" in told
    for path in (str(TOP), "/dev/shm", sys.executable):
        assert path not in told


def test_a_page_without_markers_is_refused_before_anything_is_measured(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("mine\n")

    done = compare("--quick", "--rows", "message", "--write", str(page))

    assert done.returncode == 2
    assert "page.md needs two lines" in done.stderr
    assert page.read_text() == "mine\n"


def test_the_page_in_docs_has_its_markers():
    text = (TOP / "docs/performance.md").read_text()
    assert text.index(BEGIN) < text.index(END)


# A server whose first answer comes late, and the others at once: who waits for it before he asks again does not see it.
STALLING = """
import socket, sys, time
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    client, _ = listener.accept()
    first = True
    while request := client.recv(4096):
        time.sleep(0.5 if first else 0)
        first = False
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
"""


def test_the_generator_counts_what_waits_behind_a_stalled_request():
    with subprocess.Popen([sys.executable, "-c", STALLING], stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        done = subprocess.run(
            [sys.executable, str(COMPARE.with_name("openloop.py")), port, "1", "20", "1"],
            input="go\n", capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        server.kill()

    result = json.loads(done.stdout.splitlines()[-1])
    assert result["requests"] == 20
    # Ten were due while the first was stalled. Without correction one alone of the twenty would have been slow.
    assert result["latency"]["max"] >= 500_000
    assert result["latency"]["p90"] >= 300_000


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
    ["--rows", "message", "--proxies", "direct"],
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
