"""Universal parts of speech, and words that have one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UPOS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""The 17 tags of Universal Dependencies (https://universaldependencies.org/u/pos/)."""

SPACE = "SPACE"
"""Category of tokens without a visible character: line ends, runs of spaces."""

SPECIAL = "SPECIAL"
"""Category of tokens that stand for no text, such as an EOS that the tokenizer adds."""

CATEGORIES = (*UPOS, SPACE, SPECIAL)
"""What a token can be; a number for a category is its place here."""


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """W words in the order of the text; none overlaps another."""

    begins: NDArray[np.int64]
    """(W,): first character."""
    ends: NDArray[np.int64]
    """(W,): behind the last character."""
    tags: NDArray[np.int8]
    """(W,): place in ``UPOS``."""

    def shifted(self, by: int) -> "Words":
        """The same words in a text with so many more characters in front."""
        return Words(self.begins + by, self.ends + by, self.tags)


def make_words(places: list[tuple[int, int]], names: list[str]) -> Words:
    """Words from their places and the names of their tags.

    Raises:
        ValueError: a name is not in ``UPOS``, or there is not one for each word.
    """
    spans = np.array(places, np.int64).reshape(-1, 2)
    codes = np.array([UPOS.index(name) for name in names], np.int8)
    if len(codes) != len(spans):
        raise ValueError(f"{len(spans)} words, {len(codes)} tags")
    return Words(spans[:, 0].copy(), spans[:, 1].copy(), codes)
