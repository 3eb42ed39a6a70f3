"""docs/reference.md has every key of the configuration, as the code has it: `--write-docs` writes it."""

import re

import pytest

from tests.support.generated import read_section, write_section
from tests.support.proxy import TOP
from tests.support.reference import PARTS, http_paths, keys_of, render

PAGE, SECTION = "docs/reference.md", "keys"
KEYS = [key for part in PARTS for key in keys_of(part)]


def test_the_page_is_what_the_code_says(pytestconfig):
    if pytestconfig.getoption("write_docs"):
        write_section(PAGE, SECTION, render())
    assert read_section(PAGE, SECTION) == render(), "write it: pytest --write-docs tests/unit/test_reference.py"


def test_a_sentence_says_where_a_key_is_for_http_alone():
    """The timeouts are never refused: a listener of tcp may pass by those that are not for it."""
    told = {key.path for key in KEYS if key.http_only and "_timeout" not in key.path}
    assert told - {"upstreams.NAME.balance.hash"} == http_paths()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_the_guide_says_the_same_of_every_key(key):
    """By a row of a table: the key, what it takes, its default."""
    if key.path.startswith("upstreams.NAME.balance."):
        return  # they are words of a sentence there
    rows = re.findall(rf"^\| `{key.name}` \| (.*?) ?\| (.*?) ?\|", (TOP / "docs/configuration.md").read_text(), re.M)
    assert (key.values, key.default) in [(values, default) for values, default in rows]
