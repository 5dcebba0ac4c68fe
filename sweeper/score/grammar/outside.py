"""Acceptable sentences outside the suite: what a model may read that the suite evaluates."""

import hashlib
import math
from collections.abc import Iterator

from sweeper.score.grammar.paradigm import Frame, Paradigm
from sweeper.score.grammar.suite import PARADIGMS, filling, generate

_MOST_DRAWS = 20
"""Draws for each wanted sentence, and a hundred more, before a paradigm is given up."""


def sentences_outside_suite(count: int) -> list[str]:
    """Draw acceptable sentences of every paradigm: the same ones on every machine.

    The split is by filling, one choice of words for all slots of a template. What it gives, the
    acceptable and the unacceptable sentences of all forms, is drawn only if none of them is a
    sentence of the suite, good or bad and of whatever paradigm, or ends in one as its last clause.
    The suite's words thus occur, its combinations of words do not. Small paradigms repeat: the
    smallest has 48 fillings left.

    Args:
        count: sentences of each paradigm.

    Returns:
        The sentences of all paradigms, in an order that a hash decides.
    """
    suite = generate()
    evaluated = frozenset(map(_plain, [*suite["sentence_good"], *suite["sentence_bad"]]))
    paradigms = [paradigm for entries in PARADIGMS.values() for paradigm in entries]
    drawn = [text for paradigm in paradigms for text in _draw(paradigm, count, evaluated)]
    order = sorted(range(len(drawn)), key=lambda place: _hash(f"order {place}"))
    return [drawn[place] for place in order]


def _draw(paradigm: Paradigm, count: int, evaluated: frozenset[str]) -> list[str]:
    drawn: list[str] = []
    for frame in _frames(paradigm, _MOST_DRAWS * count + 100):
        if len(drawn) >= count:
            break
        ends = (end for pair in frame for sentence in pair for end in _ends(_plain(sentence)))
        if evaluated.isdisjoint(ends):
            drawn += [good for good, _ in frame]
    assert len(drawn) >= count, f"{paradigm.uid}: the suite leaves too few sentences"
    return drawn[:count]


def _frames(paradigm: Paradigm, count: int) -> Iterator[Frame]:
    size = math.prod(len(slot) for slot in paradigm.slots)
    for draw in range(count):
        index = int.from_bytes(_hash(f"outside {paradigm.uid} {draw}")) % size
        yield paradigm.frame(*filling(paradigm.slots, index))


def _plain(sentence: str) -> str:
    """A sentence as it stands inside another one."""
    return sentence.lower().removesuffix(".")


def _ends(text: str) -> Iterator[str]:
    """The text, and what is left of it without its first word, its first two, and so on."""
    while text:
        yield text
        _, _, text = text.partition(" ")


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
