"""A policy of the user's, by its dotted path: found in the working directory, or a clear error."""

import pytest

from tests.support.ends import read_to_end
from tests.support.origin import Origin
from tests.support.proxy import Gproxy, gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    balance: {python: "POLICY"}
    backends: [{name: b1, address: "${B1:-127.0.0.1:1}"}, {name: b2, address: "${B2:-127.0.0.1:2}"}]
"""

POLICIES = """
def last(candidates, request):
    return candidates[-1]

def broken(candidates, request):
    raise RuntimeError("no idea")

word = "not a function"
"""


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "policies.py").write_text(POLICIES)
    return tmp_path


def answers(directory, policy: str) -> tuple[list[bytes], str]:
    with Origin("once", "b1") as b1, Origin("once", "b2") as b2:
        environ = {"B1": b1.address, "B2": b2.address}
        with Gproxy(directory, CONFIG.replace("POLICY", policy), environ=environ) as proxy:
            said = []
            for _ in range(4):
                with proxy.connect("web") as client:
                    said.append(read_to_end(client))
            proxy.stop()
            return said, proxy.log()


def test_it_chooses(directory):
    assert answers(directory, "policies:last")[0] == [b"b2"] * 4


def test_one_that_raises_is_replaced_by_round_robin_and_named_once(directory):
    said, log = answers(directory, "policies:broken")
    assert sorted(said) == [b"b1", b"b1", b"b2", b"b2"]
    assert log.count("no idea") == 1
    assert "round robin is used instead" in log


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("nowhere.policies:last", "No module named 'nowhere'"),
        ("policies:first", "has no attribute 'first'"),
        ("policies:word", "can't be called"),
    ],
)
def test_one_that_cannot_be_had_is_an_error_of_the_configuration(directory, policy, why):
    (directory / "gproxy.yaml").write_text(CONFIG.replace("POLICY", policy))
    for arguments in (["gproxy.yaml"], ["-t", "gproxy.yaml"]):
        done = gproxy(directory, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "upstreams.app.balance.python" in done.stderr
        assert why in done.stderr
        assert "Traceback" not in done.stderr
