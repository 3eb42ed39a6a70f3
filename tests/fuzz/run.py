"""Coverage-guided fuzzing of what reads other people's bytes, by atheris (libFuzzer).

    .venv/bin/pip install --editable '.[fuzz]'
    .venv/bin/python tests/fuzz/run.py requests -max_total_time=300

Targets: requests, responses, chunked, config, admin. Options are libFuzzer's. Whatever breaks a law of
tests/support/laws_*.py ends the run with a traceback, and its bytes are kept in .fuzz/TARGET/; to see it again:

    .venv/bin/python tests/fuzz/run.py requests .fuzz/requests/crash-...

What was found of interest is kept in .fuzz/TARGET/corpus, and is where the next run begins.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import atheris

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP))

with atheris.instrument_imports(include=["gproxy"]):
    from tests.fuzz.seeds import SEEDS, WORDS, dictionary
    from tests.support.laws_admin import AdminScene
    from tests.support.laws_config import config_law
    from tests.support.laws_http import chunked_law, request_law, response_law

SLOW = 10  # seconds: an input that takes longer is a defect, too
LONGEST = 1 << 16  # bytes


def admin_law() -> Callable[[bytes], object]:
    """Of one server for the whole run; now and then, whether it serves still."""
    scene = AdminScene().__enter__()

    def law(data: bytes) -> None:
        scene.law(data)
        scene.check_alive()

    return law


LAWS: dict[str, Callable[[], Callable[[bytes], object]]] = {
    "requests": lambda: request_law,
    "responses": lambda: response_law,
    "chunked": lambda: chunked_law,
    "config": lambda: config_law,
    "admin": admin_law,
}


def prepare(target: str, directory: Path) -> list[str]:
    """libFuzzer's arguments, after the seeds and the words were written where it finds them."""
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]()):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = directory / "words"
    words.write_text(dictionary(WORDS[target]))
    return [f"-artifact_prefix={directory}/", f"-dict={words}", f"-timeout={SLOW}", f"-max_len={LONGEST}", str(corpus)]


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in LAWS:
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(LAWS)}}} [libFuzzer's options]")
    target, options = sys.argv[1], sys.argv[2:]
    law = LAWS[target]()
    given = any(not option.startswith("-") for option in options)  # inputs to run once
    arguments = options if given else [*options, *prepare(target, TOP / ".fuzz" / target)]
    atheris.Setup([sys.argv[0], *arguments], law)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
