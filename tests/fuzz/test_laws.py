"""Whatever bytes come, the laws of tests/support/laws_*.py hold: for what the fuzzer begins with, and for edits of it.

run.py searches further, guided by coverage. What it found is in FOUND.
"""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS, WORDS, by_chunks, dictionary
from tests.support.laws_admin import AdminScene
from tests.support.laws_config import config_law
from tests.support.laws_http import check_chunked, chunked_law, pieces, request_law, response_law
from tests.support.proxy import TOP

LAWS = {"requests": request_law, "responses": response_law, "chunked": chunked_law, "config": config_law}

FOUND = [
    b"GET /v1/log HTTP/1\r\nHost: localhost:9901\r\n\r\n",  # was a traceback in the log
    by_chunks(b"GET /nowhere", b"{}").replace(b"\r\n2\r\n", b"\r\n\r\n"),  # so was a chunk without a size
    by_chunks(b"PUT /v1/log", b"{}").replace(b"\r\n2\r\n", b"\r\n\r\n"),  # and 500
]


@pytest.fixture(scope="module")
def admin():
    with AdminScene() as scene:
        yield scene


def edited(target: str) -> st.SearchStrategy[bytes]:
    """A seed with some bytes or words put in, left out or in the place of others."""
    seeds = [seed for seed in SEEDS[target]() if len(seed) < 5000]
    words = st.sampled_from(WORDS[target]) | st.binary(max_size=3)
    edits = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 8), words), max_size=6)

    def edit(seed: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for at, gone, word in changes:
            at %= len(seed) + 1
            seed = seed[:at] + word + seed[at + gone :]
        return seed

    return st.builds(edit, st.sampled_from(seeds), edits)


@pytest.mark.parametrize("target", LAWS)
def test_what_the_fuzzer_begins_with_obeys(target):
    fates = {LAWS[target](seed) for seed in SEEDS[target]()}
    assert fates >= {"accepted", "refused"}


@pytest.mark.parametrize("target", LAWS)
@given(data=st.data())
@settings(max_examples=150)
def test_edits_of_it_obey(target, data):
    LAWS[target](data.draw(edited(target)))


@pytest.mark.parametrize("target", LAWS)
@given(st.binary())
def test_any_bytes_obey(target, data):
    LAWS[target](data)


@given(edited("requests"))
def test_a_body_reads_the_same_in_any_pieces(raw):
    body = raw.partition(b"\r\n\r\n")[2]
    assert check_chunked(pieces(body, b"")) == check_chunked(pieces(body, b"\1" * len(body)))


def test_the_admin_api_obeys(admin):
    """And answers what is good."""
    fates = [admin.law(seed) for seed in SEEDS["admin"]()]
    assert set(fates) == {"200", "202"}
    for found in FOUND:
        admin.law(found)
    admin.check_alive()


@given(data=edited("admin") | st.binary())
@settings(max_examples=150)
def test_the_admin_api_obeys_for_edits(admin, data):
    admin.law(data)
    admin.check_alive()


def test_the_laws_would_notice(monkeypatch):
    """A gproxy that forwards a line too many."""
    import tests.support.laws_http as module

    monkeypatch.setattr(module, "request_bytes", lambda *_: b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n")
    with pytest.raises(AssertionError):
        request_law(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def test_the_fuzzer_s_words_are_in_its_format():
    assert dictionary([b'a"\n']) == '"\\x61\\x22\\x0a"\n'


def test_the_readme_names_every_target():
    text = (TOP / "tests/fuzz/README.md").read_text()
    assert all(f"`{target}`" in text for target in SEEDS)
    assert "atheris" not in sys.modules  # it is needed by run.py alone
