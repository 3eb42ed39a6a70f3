"""PostgreSQL through gproxy: pgbench, a postmaster killed with its sessions under way, bulk results both ways."""

import hashlib
import re
import subprocess
from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.poll import eventually
from tests.support.proxy import Gproxy
from tests.support.servers import Postgres, postgres_command, postgres_environ

pytestmark = pytest.mark.xdist_group("load")

CONFIG = """
listeners: [{{name: db, bind: "127.0.0.1:0", upstream: postgres}}]
upstreams:
  postgres:
    health_check: {{interval: 200ms, fast_interval: 50ms, rise: 1, fall: 2, timeout: 1}}
    backends: [{backends}]
"""
LIMIT = 60  # seconds for a run of a tool
ROWS = "SELECT i, md5(i::text) FROM generate_series(1, 1000000) i"  # about 40 MB


@pytest.fixture
def servers():
    with ExitStack() as stack:
        yield [stack.enter_context(Postgres(name)) for name in ("p1", "p2")]


@pytest.fixture
def proxy(tmp_path, servers):
    backends = ", ".join(f'{{name: {s.name}, address: "{s.address}"}}' for s in servers)
    with Gproxy(tmp_path, CONFIG.format(backends=backends)) as proxy:
        yield proxy


def direct(server):
    return "127.0.0.1", server.port


def run(tool, address, *arguments, **options):
    """What it prints; fails with what it says."""
    done = subprocess.run(postgres_command(tool, address, arguments), env=postgres_environ(), capture_output=True,
                          timeout=LIMIT, **options)  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def query(address, sql, **options):
    return run("psql", address, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, **options)


def connect_each_time(proxy, transactions):
    """pgbench with a connection for each transaction: how many transactions it completed, and failed."""
    said = run("pgbench", proxy.address("db"), "-S", "-C", "-n", "-c", "4", "-t", str(transactions // 4)).decode()
    return [int(re.search(rf"number of {what}: (\d+)", said)[1])
            for what in ("transactions actually processed", "failed transactions")]  # fmt: skip


@contextmanager
def long_lived_clients(proxy):
    """pgbench with connections that last; it ends with the block."""
    command = postgres_command("pgbench", proxy.address("db"), ["-S", "-n", "-c", "6", "-T", str(LIMIT)])
    process = subprocess.Popen(command, env=postgres_environ(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)


def at_work(server):
    """The long-lived clients that have asked it something, and when the last of them did."""
    its_query = "query LIKE 'SELECT abalance%'"
    said = query(direct(server), f"SELECT count(*), max(query_start) FROM pg_stat_activity WHERE {its_query}")
    clients, _, last = said.decode().strip().partition("|")
    return int(clients), last


def sessions_of(lines):
    return Counter(line.split()[3] for line in lines)


def test_a_killed_postmaster_costs_its_own_sessions_only(proxy, servers):
    for server in servers:
        run("pgbench", direct(server), "-i", "-q", "-s", "1")
    assert connect_each_time(proxy, 40) == [40, 0]
    eventually(lambda: len(proxy.access()) >= 40, what="every session is in the access log")
    assert sessions_of(proxy.access()).keys() == {"postgres/p1", "postgres/p2"}

    with long_lived_clients(proxy) as clients:
        eventually(lambda: [at_work(s)[0] for s in servers] == [3, 3], LIMIT, "both servers are at work")
        before = len(proxy.access())
        servers[0].kill()
        eventually(lambda: sessions_of(proxy.access()[before:])["postgres/p1"] >= 3, what="its sessions end")

        assert connect_each_time(proxy, 200) == [200, 0]  # new ones are served, from the first on
        seen = at_work(servers[1])
        eventually(lambda: at_work(servers[1]) > seen, LIMIT, "the other server's sessions go on")
        assert clients.poll() is None

    proxy.wait_for_log("backend postgres/p1 is down: check failed: .*[Cc]onnection refused")
    eventually(lambda: len(proxy.access()) >= before + 206, what="every session is in the access log")
    lost = [line for line in proxy.access()[before:] if "postgres/p1 " in line]
    assert len(lost) == 3
    assert {line.split()[6] for line in lost} <= {"SD", "--"}  # RST where a query was unread, else FIN
    assert sessions_of(proxy.access()[before:])["postgres/p2"] >= 200


def test_bulk_results_and_loads_pass_intact(proxy, servers):
    expected = query(direct(servers[0]), f"COPY ({ROWS}) TO STDOUT")
    assert len(expected) > 30 << 20

    through = query(proxy.address("db"), f"COPY ({ROWS}) TO STDOUT")
    assert hashlib.md5(through).hexdigest() == hashlib.md5(expected).hexdigest()

    for server in servers:
        query(direct(server), "CREATE TABLE rows (i int, digest text)")
    query(proxy.address("db"), "COPY rows FROM STDIN", input=expected)
    loaded = [query(direct(server), "COPY rows TO STDOUT") for server in servers]
    assert sorted(map(len, loaded)) == [0, len(expected)]
    assert hashlib.md5(max(loaded, key=len)).hexdigest() == hashlib.md5(expected).hexdigest()
