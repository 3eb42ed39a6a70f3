"""Each command in README.md and docs/*.md is run, in the order of its page, in a copy of the checkout."""

import re

import pytest

from tests.support.commands import BEFORE, GIVEN, PRINTED, REPLACED, RESTARTED, SERVED, SKIPPED, statements, words_of
from tests.support.pages import blocks, blocks_of, copy_checkout
from tests.support.proxy import TOP
from tests.support.terminal import Terminal

WITH_COMMANDS = list(dict.fromkeys(block.page for block in blocks("sh")))
COMMANDS = {words_of(statement) for block in blocks("sh") for statement in statements(block.text)}


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_its_commands_do_what_the_page_says(page, tmp_path):
    copy_checkout(tmp_path)
    with Terminal(tmp_path) as terminal:
        if page in GIVEN:
            terminal.enter(GIVEN[page])
            terminal.serve("gproxy gproxy.yaml", "is ready")
        said = None
        for block in blocks_of(page):
            if (name := block.argument("file")) is not None:
                (tmp_path / name).write_text(block.text)
            elif block.language == "sh" and not block.skipped:
                printed = [enter(terminal, page, statement) for statement in statements(block.text)]
                said = None if None in printed else "".join(printed)
            elif block.language == "text" and said is not None:
                assert_printed(said, block)


def enter(terminal, page, statement):
    """What it prints; None where it is not run."""
    known = words_of(statement)
    if known in SKIPPED:
        return None
    if known in BEFORE:
        terminal.enter(BEFORE[known])
    if known in RESTARTED:
        serve(terminal, RESTARTED[known])
    for (where, word), other in REPLACED.items():
        if where == page:
            statement = statement.replace(word, other)
    if known in SERVED:
        return serve(terminal, known)
    if known in PRINTED:
        return terminal.enter_until(statement, PRINTED[known])
    return terminal.enter(statement)


def serve(terminal, command):
    """One gproxy takes the place of another."""
    if "gproxy" in command:
        terminal.interrupt()
    return terminal.serve(command, SERVED[command])


def assert_printed(said, block):
    """Each line of the block, in its order, but for numbers and what depends on them; `...` stands for anything."""
    rest = iter(shape(said).splitlines())
    for line in shape(block.text).splitlines():
        assert line in ("", "...") or line in rest, f"{block}: {line!r} is not, or not there, in:\n{shape(said)}"


def shape(text):
    """With one sign for every number and its unit, and one blank between two words."""
    text = re.sub(r"\b[0-9a-f]{24}\b", "ID", text)
    text = re.sub(r"\d[\d.,:TZ-]*( ?(us|ms|s|kB|MB|B)\b(/s)?)?", "N", text)
    return re.sub(r"-{3,}|[ \t]+", " ", text)


@pytest.mark.parametrize("known", [*SKIPPED, *SERVED, *PRINTED, *BEFORE, *RESTARTED.values()])
def test_what_is_known_of_a_command_is_of_one_that_is_there(known):
    assert known in COMMANDS


@pytest.mark.parametrize(("page", "word"), REPLACED)
def test_what_is_replaced_is_there(page, word):
    assert any(word in block.text for block in blocks_of(page))


@pytest.mark.parametrize("reason", [reason for reason in SKIPPED.values() if reason.startswith("tests/")])
def test_what_is_said_to_be_run_by_another_test_is(reason):
    assert (TOP / reason).exists()


def test_a_page_that_is_given_something_is_there():
    assert set(GIVEN) <= set(WITH_COMMANDS)
