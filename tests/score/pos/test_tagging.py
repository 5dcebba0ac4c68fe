from dataclasses import replace

import numpy as np
import pytest

from sweeper.score.pos import tagging
from sweeper.score.pos.taggers import choose
from sweeper.score.pos.tagging import pieces, tagged_words
from sweeper.spec.task import HantaTagger

LINES = "".join(f"The old dog number {n} didn't see {n} cats .\n" for n in range(40))


@pytest.fixture
def counting(cache):
    """HanTa, and the texts that it was asked for."""
    asked, tagger = [], choose(HantaTagger())

    def tag(text):
        asked.append(text)
        return tagger.tag(text)

    return replace(tagger, tag=tag), asked


def test_pieces_are_the_text_and_end_with_lines():
    found = [LINES[begin:end] for begin, end in pieces(LINES, 200)]
    assert "".join(found) == LINES
    assert all(len(piece) <= 200 and piece.endswith("\n") for piece in found)
    assert list(pieces("", 200)) == []


def test_pieces_without_lines_end_with_words():
    text = "word " * 100
    found = [text[begin:end] for begin, end in pieces(text, 64)]
    assert "".join(found) == text
    assert all(piece.endswith(" ") and 32 < len(piece) <= 64 for piece in found[:-1])
    assert [end for _, end in pieces("x" * 100, 30)] == [30, 60, 90, 100]


def test_words_of_pieces_are_those_of_the_whole(counting, monkeypatch):
    monkeypatch.setattr(tagging, "PIECE", 200)
    tagger, asked = counting
    found, whole = tagged_words(LINES, len(LINES), tagger), choose(HantaTagger()).tag(LINES)
    assert len(asked) > 5
    for name in ("begins", "ends", "tags"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_nothing_is_tagged_twice_or_in_vain(counting, monkeypatch):
    monkeypatch.setattr(tagging, "PIECE", 200)
    tagger, asked = counting
    tagged_words(LINES, 150, tagger)
    assert len(asked) == 1
    first = tagged_words(LINES, 500, tagger)
    num = len(asked)
    assert 1 < num < 5
    again = tagged_words(LINES, 500, tagger)
    assert len(asked) == num
    np.testing.assert_array_equal(first.tags, again.tags)
    assert len(tagged_words(LINES, 0, tagger).tags) == 0


def test_another_tagger_does_not_get_the_kept_words(counting):
    tagger, asked = counting
    tagged_words("A dog.", 6, tagger)
    tagged_words("A dog.", 6, replace(tagger, identity={**tagger.identity, "rules": "other"}))
    assert len(asked) == 2
