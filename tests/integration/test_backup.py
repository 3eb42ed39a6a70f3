"""A backup serves while nobody else can, and only then."""

from tests.support.ends import read_to_end
from tests.support.origin import Origin
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

CONFIG = """
listeners: [{name: web, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {interval: 200ms, fast_interval: 50ms, rise: 1, fall: 1}
    backends:
      - {name: b1, address: "${B1}"}
      - {name: b2, address: "${B2}"}
      - {name: spare, address: "${SPARE}", backup: true}
"""


def names(proxy: Gproxy) -> set[str]:
    found = set()
    for _ in range(6):
        with proxy.connect("web") as client:
            found.add(read_to_end(client).decode())
    return found


def test_it_serves_only_while_no_other_can(tmp_path):
    with Origin("once", "b1") as b1, Origin("once", "b2") as b2, Origin("once", "spare") as spare:
        environ = {"B1": b1.address, "B2": b2.address, "SPARE": spare.address}
        with Gproxy(tmp_path, CONFIG, environ=environ) as proxy:
            assert names(proxy) == {"b1", "b2"}
            b1.kill()
            proxy.wait_for_log("backend app/b1 is down")
            assert names(proxy) == {"b2"}
            b2.kill()
            proxy.wait_for_log("backend app/b2 is down")
            assert names(proxy) == {"spare"}
            b1.start()
            eventually(lambda: names(proxy) == {"b1"}, what="b1 alone serves again")
