"""Who gets the next session, by each policy that can be told from outside."""

import socket
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.support.ends import TIMEOUT, read, read_to_end
from tests.support.origin import Origin
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    balance: POLICY
    backends:
      - {name: b1, address: "${B1}", weight: WEIGHT}
      - {name: b2, address: "${B2}"}
      - {name: b3, address: "${B3}"}
"""


@pytest.fixture
def balancer(tmp_path):
    """`balancer(policy, weight of b1)` starts one in front of three origins that say their name first."""
    with ExitStack() as stack:

        def start(policy: str, weight: int = 1) -> Gproxy:
            origins = [stack.enter_context(Origin("hello", name)) for name in ("b1", "b2", "b3")]
            config = CONFIG.replace("POLICY", policy).replace("WEIGHT", str(weight))
            environ = {o.name.upper(): o.address for o in origins}
            return stack.enter_context(Gproxy(tmp_path, config, environ=environ))

        yield start


def name(client: socket.socket) -> str:
    return read(client, 3).decode().strip()


def ask(proxy: Gproxy, source: str = "127.0.0.1") -> str:
    with socket.create_connection(proxy.address("web"), TIMEOUT, (source, 0)) as client:
        client.shutdown(socket.SHUT_WR)
        return read_to_end(client).decode().strip()


def test_round_robin_takes_turns(balancer):
    proxy = balancer("round_robin")
    turns = [ask(proxy) for _ in range(9)]
    assert sorted(turns[:3]) == ["b1", "b2", "b3"]
    assert turns[3:] == turns[:6]


def test_a_weight_is_a_share_and_spread_smoothly(balancer):
    proxy = balancer("round_robin", weight=2)
    turns = [ask(proxy) for _ in range(12)]
    assert Counter(turns) == {"b1": 6, "b2": 3, "b3": 3}
    assert not any(a == b == c for a, b, c in zip(turns, turns[1:], turns[2:], strict=False))


def test_least_connections_looks_at_open_sessions(balancer):
    proxy = balancer("least_connections")
    with ExitStack() as stack:
        held = [stack.enter_context(proxy.connect("web")) for _ in range(6)]
        names = [name(client) for client in held]
        assert Counter(names) == {"b1": 2, "b2": 2, "b3": 2}
        for client, served_by in zip(held, names, strict=True):
            if served_by == "b2":
                client.close()
        proxy.wait_for_access(r"app/b2(?s:.*)app/b2")
        assert [name(stack.enter_context(proxy.connect("web"))) for _ in range(2)] == ["b2", "b2"]


def test_source_hash_keeps_a_client_at_its_backend(balancer):
    proxy = balancer("source_hash")
    sources = [f"127.0.0.{i}" for i in range(1, 31)]
    first = {source: ask(proxy, source) for source in sources}
    assert set(first.values()) == {"b1", "b2", "b3"}
    assert {source: ask(proxy, source) for source in sources} == first


@pytest.mark.parametrize("policy", ["random", "p2c"])
def test_chance_reaches_all_of_them(balancer, policy):
    proxy = balancer(policy)
    assert {ask(proxy) for _ in range(60)} == {"b1", "b2", "b3"}  # misses one of them once in 10^10 runs
