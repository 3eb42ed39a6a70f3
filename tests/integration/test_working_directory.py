"""A file in the directory where gproxy is started is never taken for a module of its own."""

from tests.support.ends import read_to_end
from tests.support.origin import Origin
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams: {app: {BALANCE backends: [{name: b1, address: "${B1}"}]}}
"""

STRANGER = """
from pathlib import Path
Path(__file__).with_suffix(".imported").touch()
raise RuntimeError("this is none of gproxy's modules")
"""

NAMES = ("gevent", "statsd", "logs", "resource")  # installed, gproxy's own, the standard library's


def serves_among_strangers(directory, balance: str) -> None:
    for name in NAMES:
        (directory / f"{name}.py").write_text(STRANGER)
    with Origin("once", "b1") as b1:
        # As for the installed command, `python -m` itself does not look in the directory.
        environ = {"B1": b1.address, "PYTHONSAFEPATH": "1"}
        with Gproxy(directory, CONFIG.replace("BALANCE", balance), environ=environ) as proxy:
            with proxy.connect("web") as client:
                assert read_to_end(client) == b"b1"
            assert proxy.stop() == 0
    assert list(directory.glob("*.imported")) == []


def test_without_a_policy_nothing_is_imported_from_it(tmp_path):
    serves_among_strangers(tmp_path, "")


def test_a_policy_is_found_in_it_and_nothing_else(tmp_path):
    (tmp_path / "my_policy.py").write_text("def first(candidates, request):\n    return candidates[0]\n")
    serves_among_strangers(tmp_path, 'balance: {python: "my_policy:first"},')
