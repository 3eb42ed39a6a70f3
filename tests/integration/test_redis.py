"""Redis through gproxy: pipelines, a transaction, messages, a server killed at full load, shared connections."""

import re
import subprocess
from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.poll import eventually
from tests.support.proxy import Gproxy
from tests.support.redis_client import RedisClient
from tests.support.servers import Redis, program

pytestmark = pytest.mark.xdist_group("load")

CONFIG = """
listeners: [{{name: cache, bind: "127.0.0.1:0", upstream: redis}}]
upstreams:
  redis:
    health_check: {{interval: 200ms, fast_interval: 50ms, rise: 1, fall: 2, timeout: 1}}
    pool: {{reuse: {reuse}}}
    backends: [{backends}]
"""
LIMIT = 60  # seconds for a benchmark


@pytest.fixture
def servers(tmp_path):
    with ExitStack() as stack:
        yield [stack.enter_context(Redis(tmp_path, name)) for name in ("r1", "r2")]


def gproxy(tmp_path, servers, reuse="never"):
    backends = ", ".join(f'{{name: {s.name}, address: "{s.address}"}}' for s in servers)
    return Gproxy(tmp_path, CONFIG.format(backends=backends, reuse=reuse))


def benchmark(proxy, requests):
    """50 clients, each with 16 requests under way."""
    host, port = proxy.address("cache")
    tool = program("redis-benchmark", "redis-tools")
    return [tool, "-h", host, "-p", str(port), "-t", "ping,set,get", "-c", "50", "-P", "16", "-n", str(requests), "-q"]


def direct(server):
    return RedisClient(("127.0.0.1", server.port))


def commands_done(server):
    with direct(server) as redis:
        return int(re.search(r"total_commands_processed:(\d+)", redis("INFO", "stats"))[1])


@contextmanager
def running(command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT)


def test_pipelines_go_through_to_both_servers(tmp_path, servers):
    with gproxy(tmp_path, servers) as proxy:
        done = subprocess.run(benchmark(proxy, 100_000), capture_output=True, text=True, timeout=LIMIT)

        assert (done.returncode, done.stderr) == (0, "")
        ended = re.findall(r"(\S+): \S+ requests per second", done.stdout)
        assert ended == ["PING_INLINE", "PING_MBULK", "SET", "GET"]
        assert all(commands_done(server) > 100_000 for server in servers)
        eventually(lambda: len(proxy.access()) >= 200, what="every session is in the access log")
        assert {line.split()[6] for line in proxy.access()} == {"--"}


def test_a_server_killed_at_full_load_costs_its_own_sessions_only(tmp_path, servers):
    with gproxy(tmp_path, servers) as proxy:
        with running(benchmark(proxy, 20_000_000)) as victim:
            eventually(lambda: all(commands_done(s) > 50_000 for s in servers), LIMIT, "both servers are at work")
            servers[0].kill()
            victim.wait(LIMIT)  # redis-benchmark gives up when it loses a connection
            assert victim.returncode == 1
        proxy.wait_for_access(r"redis/r1 .* (SD|--) ")
        eventually(lambda: len(proxy.access()) >= 50, what="all its sessions are over")
        before = len(proxy.access())

        done = subprocess.run(benchmark(proxy, 20_000), capture_output=True, text=True, timeout=LIMIT)

        assert (done.returncode, done.stderr) == (0, "")
        proxy.wait_for_log("backend redis/r1 is down: check failed: .*[Cc]onnection refused")
        eventually(lambda: len(proxy.access()) >= before + 200, what="every session is in the access log")
        assert Counter(line.split()[3] for line in proxy.access()[before:]).keys() == {"redis/r2"}


def test_a_transaction_is_one_sessions_own(tmp_path, servers):
    with gproxy(tmp_path, servers[:1]) as proxy:
        address = proxy.address("cache")
        with RedisClient(address) as first, RedisClient(address) as second:
            assert first("MULTI") == "OK"
            assert first("INCR", "n") == "QUEUED"
            assert second("INCR", "n") == 1  # not queued: it has a connection of its own
            assert first("INCR", "n") == "QUEUED"
            assert first("EXEC") == [2, 3]


def test_messages_reach_a_subscriber_that_sends_nothing(tmp_path, servers):
    with gproxy(tmp_path, servers) as proxy, RedisClient(proxy.address("cache")) as subscriber:
        assert subscriber("SUBSCRIBE", "news") == ["subscribe", "news", 1]

        receivers = 0
        for server in servers:
            with direct(server) as publisher:
                receivers += publisher("PUBLISH", "news", f"from {server.name}")

        assert receivers == 1
        assert subscriber.reply()[:2] == ["message", "news"]


def test_quiescent_clients_share_a_connection_one_after_the_other(tmp_path, servers):
    with gproxy(tmp_path, servers[:1], reuse="quiescent") as proxy:
        address = proxy.address("cache")
        with RedisClient(address) as first:
            assert first("SET", "greeting", "hello") == "OK"
            connection = first("CLIENT", "ID")
        proxy.wait_for_access(r" -- .* fresh$")
        with RedisClient(address) as second:
            assert second("GET", "greeting") == "hello"
            assert second("CLIENT", "ID") == connection
        proxy.wait_for_access(r" -- .* reused$")


def test_without_it_each_client_has_a_connection_of_its_own(tmp_path, servers):
    with gproxy(tmp_path, servers[:1]) as proxy:
        seen = []
        for number in range(2):
            with RedisClient(proxy.address("cache")) as client:
                seen.append(client("CLIENT", "ID"))
            eventually(lambda least=number + 1: len(proxy.access()) == least, what="the session is over")

        assert len(set(seen)) == 2
