"""What the tests of faults have in common."""

import contextlib
import resource

import pytest

from tests.support.bystander import Bystander
from tests.support.origin import Origin
from tests.support.proxy import Gproxy
from tests.support.reliability import Reporter

# `other` is the bystander's. A fault's own upstreams follow.
CONFIG = """
listeners:
  - {name: other, mode: http, bind: "127.0.0.1:0", upstream: other}
  - {name: web, mode: http, bind: "127.0.0.1:0", upstream: app}
upstreams:
  other: {health_check: {type: none}, backends: [{name: o1, address: "${OTHER}"}]}
"""


@pytest.fixture
def reliability_row(request):
    """`reliability_row(sees=..., took=..., others=..., heals=...)`: the row of this fault in docs/reliability.md."""
    reporter = Reporter(request.node)
    yield reporter
    assert reporter.reported or request.node.stash.get(FAILED, False), "it has reported no row"


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.when == "call" and report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def other():
    """The bystander's backend."""
    with Origin("http", "other") as origin:
        yield origin


@pytest.fixture
def faulty(tmp_path, other):
    """`with faulty("app: {...}", {"B1": ...}) as (proxy, bystander)`: gproxy before these upstreams, and its bystander.

    `root` are further keys at the top, `listeners` further listeners; options are Gproxy's.
    """

    @contextlib.contextmanager
    def start(upstreams, environ, root="", listeners="", **options):
        before, after = CONFIG.split("upstreams:\n")
        given = "".join(f"  {line}\n" for line in upstreams.splitlines())
        config = f"{root}{before}{listeners}upstreams:\n{after}{given}"
        with Gproxy(tmp_path, config, environ={"OTHER": other.address} | environ, **options) as proxy:
            with Bystander(proxy, "other") as bystander:
                yield proxy, bystander
            assert "Traceback" not in proxy.log()

    return start


@pytest.fixture
def many_descriptors():
    """As many as the hard limit allows, for the time of a test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
