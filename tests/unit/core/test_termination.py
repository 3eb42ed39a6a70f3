"""Every termination code is made of known letters and can be explained."""

from __future__ import annotations

import pytest

from gproxy.core.termination import PHASE, SENTENCES, WHO, Ended, explain


@pytest.mark.parametrize("code", Ended)
def test_a_code_is_a_known_who_and_a_known_phase(code: Ended) -> None:
    who, phase = code
    assert who in WHO
    assert phase in PHASE


def test_every_code_has_a_sentence_of_its_own() -> None:
    assert set(SENTENCES) == set(Ended)
    assert len(set(SENTENCES.values())) == len(Ended)


@pytest.mark.parametrize("sentence", SENTENCES.values())
def test_a_sentence_is_a_sentence(sentence: str) -> None:
    assert sentence[0].isupper()
    assert sentence.endswith(".")


def test_a_code_is_its_two_letters() -> None:
    assert f"{Ended.CLIENT_RESET}" == "CD"
    assert Ended("CD") is Ended.CLIENT_RESET


def test_a_plain_string_is_explained_too() -> None:
    assert explain("SC") == "No backend could be connected: none was eligible, or all that were tried failed."


def test_a_code_without_a_sentence_is_composed() -> None:
    assert explain("DH") == "Ended by the backend was marked down, before the response head was complete."


@pytest.mark.parametrize("code", ["", "C", "D-D", "XD", "CX", "DDD", "cd"])
def test_what_is_not_a_code_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="no termination code"):
        explain(code)
