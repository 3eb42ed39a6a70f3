"""Each command in README.md and docs/*.md is run, in the order of its page, in a copy of the checkout."""

import re
from functools import partial

import pytest

from tests.support.commands import (
    BEFORE,
    FAILS,
    GIVEN,
    LOOKS,
    PRINTED,
    REPLACED,
    RESTARTED,
    SERVED,
    SKIPPED,
    statements,
    words_of,
)
from tests.support.pages import blocks, blocks_of, copy_checkout
from tests.support.proxy import TOP
from tests.support.terminal import Terminal

WITH_COMMANDS = list(dict.fromkeys(block.page for block in blocks("sh")))
COMMANDS = {words_of(statement) for block in blocks("sh") for statement in statements(block.text)}


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_its_commands_do_what_the_page_says(page, tmp_path):
    copy_checkout(tmp_path)
    found = blocks_of(page)
    with Terminal(tmp_path) as terminal:
        if page in GIVEN:
            terminal.enter(GIVEN[page])
            terminal.enter(wait_for_servers("9100 9101"))
            terminal.serve("gproxy gproxy.yaml", "is ready")
        for block, behind in zip(found, [*found[1:], None], strict=True):
            if (name := block.argument("file")) is not None:
                (tmp_path / name).write_text(block.text)
            elif block.language == "sh":
                shown = behind.text if behind is not None and behind.language == "text" else ""
                run(terminal, block, shown)


def run(terminal, block, shown):
    """All of a block's commands; `shown` is what they print, if the page says so."""
    printed = [enter(terminal, block.page, statement, shown) for statement in statements(block.text)]
    if any(said is not None for said in printed):
        said = "".join(filter(None, printed))
        assert lacking(shown, said) is None, f"{block}: {lacking(shown, said)!r} is not, or not there, in:\n{said}"


def enter(terminal, page, statement, shown):
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
    if known in LOOKS:
        return terminal.enter_until(statement, lambda said: lacking(shown, said) is None)
    if known in PRINTED:
        return terminal.enter_until(statement, partial(re.search, PRINTED[known]))
    said = terminal.enter(statement, FAILS.get(known, 0))
    if "http.server" in statement:
        terminal.enter(wait_for_servers(statement))
    return said


def wait_for_servers(statement):
    """A reader is slower than they are."""
    ports = " ".join(re.findall(r"\b9\d\d\d\b", statement))
    return f"for port in {ports}; do until : </dev/tcp/127.0.0.1/$port; do sleep 0.05; done; done"


def serve(terminal, command):
    """One gproxy takes the place of another."""
    if "gproxy" in command:
        terminal.interrupt()
    return terminal.serve(command, SERVED[command])


def lacking(shown, said):
    """The first line that was not printed in its turn, but for its numbers; `...` stands for any lines."""
    rest = iter(shape(said).splitlines())
    return next((line for line in shape(shown).splitlines() if line not in ("", "...") and line not in rest), None)


def shape(text):
    """With one sign for every number and its unit, and one blank between two words."""
    text = re.sub(r", (compiled|pure Python)$", "", text, flags=re.MULTILINE)  # the one or the other
    text = re.sub(r"\b[0-9a-f]{24}\b", "ID", text.replace(", ejected", ""))  # that is a matter of a moment
    text = re.sub(r"\d[\d.,:TZ-]*( ?(us|ms|s|kB|MB|B)\b(/s)?)?", "N", text)
    return re.sub(r"[ \t]+", " ", text)


@pytest.mark.parametrize("known", [*SKIPPED, *SERVED, *PRINTED, *LOOKS, *FAILS, *BEFORE, *RESTARTED.values()])
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
