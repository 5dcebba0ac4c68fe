"""The registry of phenomena, and the choice of pairs from all that the templates could say."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from sweeper.score.grammar import agreement, anaphora, determiner, ellipsis, gaps, npi
from sweeper.score.grammar.paradigm import Frame, Pair, Paradigm

PAIRS_PER_PARADIGM = 160
PARADIGMS: dict[str, tuple[Paradigm, ...]] = {
    "subject_verb_agreement": agreement.PARADIGMS,
    "anaphor_agreement": anaphora.PARADIGMS,
    "npi_licensing": npi.PARADIGMS,
    "determiner_noun_agreement": determiner.PARADIGMS,
    "filler_gap_dependency": gaps.PARADIGMS,
    "ellipsis": ellipsis.PARADIGMS,
}
"""Phenomenon -> its paradigms."""


def generate() -> pd.DataFrame:
    """Generate the suite: the same rows on every machine.

    Returns:
        One row per pair: sentence_good, sentence_bad, UID (paradigm), linguistics_term
        (phenomenon), pair_id (0, 1, ... in each paradigm). Pairs that balance each other are
        neighbours, so that every even number of first pairs is balanced too.
    """
    rows = [
        (good, bad, paradigm.uid, phenomenon, pair_id)
        for phenomenon, paradigms in PARADIGMS.items()
        for paradigm in paradigms
        for pair_id, (good, bad) in enumerate(_choose(paradigm))
    ]
    columns = ["sentence_good", "sentence_bad", "UID", "linguistics_term", "pair_id"]
    return pd.DataFrame(rows, columns=columns)


def _choose(paradigm: Paradigm) -> list[Pair]:
    """The paradigm's pairs, from frames drawn without repetition."""
    chosen: dict[Pair, None] = {}
    for frame in _drawn_frames(paradigm):
        if not chosen.keys() & set(frame):
            chosen.update(dict.fromkeys(frame))
        if len(chosen) >= PAIRS_PER_PARADIGM:
            break
    return list(chosen)


def _drawn_frames(paradigm: Paradigm) -> Iterator[Frame]:
    """Frames in an order that a hash of the paradigm's name decides.

    No random generator: none of them promises the same stream in the next version.
    """
    size = math.prod(len(slot) for slot in paradigm.slots)
    for draw in range(20 * PAIRS_PER_PARADIGM):
        digest = hashlib.sha256(f"{paradigm.uid} {draw}".encode()).digest()
        yield paradigm.frame(*filling(paradigm.slots, int.from_bytes(digest) % size))


def filling(slots: Sequence[Sequence[Any]], index: int) -> list[Any]:
    """The ``index``-th element of the product of the slots (mixed radix)."""
    words = []
    for slot in slots:
        index, position = divmod(index, len(slot))
        words.append(slot[position])
    return words
