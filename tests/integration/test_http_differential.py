"""The same odd requests through gproxy, HAProxy and nginx, judged by an origin that writes down what it gets.

Whatever gproxy lets through and both others refuse, forwards in another way than both, or refuses alone was decided
on: tests/support/strictness.py says how, and docs/strictness.md has it as tables. `--write-docs` writes those.
"""

import contextlib
import re
import subprocess
from typing import NamedTuple

import pytest

from tests.support.generated import read_section, write_section
from tests.support.http_judge import JudgingOrigin, judge
from tests.support.http_mutations import mutations
from tests.support.http_odd import odd_requests
from tests.support.other_proxies import HaProxy, NginxProxy
from tests.support.proxy import TOP, Gproxy
from tests.support.servers import program
from tests.support.strictness import (
    FORWARDED_DIFFERENTLY,
    LET_THROUGH,
    REFUSED_ALONE,
    Judged,
    forwarded_differently,
    let_through,
    needless,
    refused_alone,
    render,
    undecided,
)

pytestmark = pytest.mark.xdist_group("differential")

VERSIONS = "HAProxy 2.6 and nginx 1.22"  # of Debian 12: the page is about them
PAGE = "docs/strictness.md"
# A connection for each request, as with the others.
CONFIG = """
log: {access: off}
listeners: [{name: web, mode: http, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app: {health_check: {type: none}, retries: 0, pool: {max_uses: 1}, backends: [{name: b1, address: "${B1}"}]}
"""


class Section(NamedTuple):
    name: str
    belongs: object
    decisions: object


SECTIONS = [
    Section("let-through", let_through, LET_THROUGH),
    Section("forwarded-differently", forwarded_differently, FORWARDED_DIFFERENTLY),
    Section("refused-alone", refused_alone, REFUSED_ALONE),
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """What became of each request."""
    directory = tmp_path_factory.mktemp("differential")
    cases = [*mutations(), *odd_requests()]
    with contextlib.ExitStack() as stack:
        origins = [stack.enter_context(JudgingOrigin(name)) for name in ("gproxy", "HAProxy", "nginx")]
        gproxy = stack.enter_context(Gproxy(directory, CONFIG, environ={"B1": origins[0].address}))
        haproxy = stack.enter_context(HaProxy(directory, origins[1].address))
        nginx = stack.enter_context(NginxProxy(directory, origins[2].address))
        ports = (gproxy.address("web")[1], haproxy.port, nginx.port)
        found = [judge(port, origin, cases) for port, origin in zip(ports, origins, strict=True)]
        assert "Traceback" not in gproxy.log()
    return [Judged(case.name, ours, tuple(others)) for case, ours, *others in zip(cases, *found, strict=True)]


def versions():
    """Of the others, without their last number."""
    haproxy = subprocess.run([program("haproxy", "haproxy"), "-v"], capture_output=True, text=True, check=True).stdout
    nginx = subprocess.run([program("nginx", "nginx-light"), "-v"], capture_output=True, text=True, check=True).stderr
    return f"HAProxy {re.search(r'[0-9]+[.][0-9]+', haproxy)[0]} and nginx {re.search(r'[0-9]+[.][0-9]+', nginx)[0]}"


def test_a_plain_request_means_the_same_through_all_three(judged):
    """Or the origin would notice nothing."""
    [plain] = [case for case in judged if case.name == "GET with X-A:a"]
    assert len(plain.ours) == 1
    assert plain.others == (plain.ours, plain.ours)
    passed = [case for case in judged if case.ours and all(case.others)]
    assert len(passed) > 200
    assert len([case for case in judged if not case.ours and not any(case.others)]) > 300
    assert len({case.name for case in judged}) == len(judged)


def test_what_gproxy_forwards_is_one_request_that_a_strict_reader_takes(judged):
    assert [case.name for case in judged if any(meaning.odd for meaning in case.ours)] == []
    assert [case.name for case in judged if len(case.ours) > 1] == []


def test_whatever_gproxy_alone_lets_through_was_decided_on(judged):
    assert undecided([case for case in judged if let_through(case)], LET_THROUGH) == []


@pytest.mark.parametrize("section", SECTIONS, ids=[section.name for section in SECTIONS])
def test_the_page_has_every_difference_and_its_decision(judged, section, request):
    assert VERSIONS in (TOP / PAGE).read_text()
    if versions() != VERSIONS:
        return  # others differ in other things
    found = [case for case in judged if section.belongs(case)]
    assert undecided(found, section.decisions) == []
    assert needless(found, section.decisions) == []
    text = render(section.decisions)
    if request.config.getoption("write_docs"):
        write_section(PAGE, section.name, text)
    assert read_section(PAGE, section.name) == text, "write it anew: pytest --write-docs"
