"""Limits of sessions hold for all workers together."""

import contextlib
import itertools
import socket
import struct

from tests.integration.test_reload import ask
from tests.integration.test_workers import served_by
from tests.support.ends import read
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
workers: 3
max_connections: 6
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app, on_overload: reject}]
upstreams: {app: {backends: [{name: one, address: "${B1}"}]}}
"""
MOST = 6


def is_served(client):
    try:
        return read(client, 4) == b"one\n"
    except ConnectionResetError:
        return False


def test_the_excess_is_turned_away_whichever_worker_it_meets(tmp_path):
    with (
        Origin("hello", "one") as origin,
        Gproxy(tmp_path, CONFIG, environ={"B1": origin.address}) as proxy,
        contextlib.ExitStack() as stack,
    ):
        served = 0
        for _ in range(20):  # one after the other: of those that come at once, each worker may take one too many
            with contextlib.suppress(ConnectionResetError):  # as early as that
                client = stack.enter_context(proxy.connect("web"))
                served += is_served(client)
        assert served == MOST
        stack.close()
        eventually(lambda: serves(proxy))


def test_those_who_wait_are_served_when_sessions_of_other_workers_end(tmp_path):
    patient = CONFIG.replace(", on_overload: reject", "")
    with (
        Origin("hello", "one") as origin,
        Gproxy(tmp_path, patient, environ={"B1": origin.address}) as proxy,
        contextlib.ExitStack() as rest,
    ):
        with contextlib.ExitStack() as first:
            for _ in range(MOST):
                assert is_served(first.enter_context(proxy.connect("web")))
            waiting = [rest.enter_context(proxy.connect("web")) for _ in range(MOST)]
        assert all(map(is_served, waiting))


def serves(proxy):
    try:
        with proxy.connect("web") as client:
            return is_served(client)
    except ConnectionResetError:
        return False


HTTP = """
workers: 2
max_connections: 4
load_balancer: {client_idle_timeout: 600, request_head_timeout: 600}
listeners: [{name: web, bind: "127.0.0.1:0", mode: http, upstream: app}]
upstreams: {app: {backends: ["${B1}"]}}
"""


def test_idle_clients_make_room_for_those_of_another_worker(tmp_path):
    with (
        Origin("http", "one") as origin,
        Gproxy(tmp_path, HTTP, environ={"B1": origin.address}) as proxy,
        contextlib.ExitStack() as stack,
    ):
        idle, sources = 0, []
        for number in itertools.count(1):
            if idle == 4 and sources:
                break
            # Each from an address of its own, where nobody else takes its port.
            client = stack.enter_context(connect(proxy, (f"127.77.0.{number}", 0)))
            assert ask(client).endswith(b"one")
            if idle < 4 and served_by(proxy, [client])["worker1"]:
                idle += 1
                continue
            sources.append(client.getsockname())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its port is free at once
            client.close()
        # The kernel chooses by addresses and ports: from this one to the worker that has no client.
        with connect(proxy, sources[0]) as client:
            assert ask(client).endswith(b"one")


def connect(proxy, source):
    return socket.create_connection(proxy.address("web"), 10, source)
