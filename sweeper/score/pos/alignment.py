"""Which word each token belongs to: the one that it shares the most characters with.

Shapes: T tokens, W words.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sweeper.score.pos.tags import CATEGORIES, SPACE, SPECIAL, Words
from sweeper.score.tokens import Span

NO_WORD = -1


def align(begins: NDArray[np.int64], ends: NDArray[np.int64], words: Words) -> NDArray[np.int64]:
    """Find each token's word by largest overlap of characters; of equals the first.

    Tokens are looked up by bisection; only those that touch several words are compared with each.

    Args:
        begins: (T,) first characters.
        ends: (T,) behind the last ones; a token with ``end <= begin`` has no character.
        words: sorted and without overlap.

    Returns:
        (T,) index of the word, or ``NO_WORD`` for a token that touches none.
    """
    first = np.searchsorted(words.ends, begins, side="right")
    behind = np.searchsorted(words.begins, ends, side="left")
    touches = (behind > first) & (ends > begins)
    found = np.where(touches, first, NO_WORD).astype(np.int64)
    for token in np.flatnonzero(touches & (behind - first > 1)):
        near = slice(first[token], behind[token])
        shared = np.minimum(words.ends[near], ends[token])
        shared -= np.maximum(words.begins[near], begins[token])
        found[token] += int(shared.argmax())
    return found


def categories(spans: Sequence[Span], words: Words) -> NDArray[np.int8]:
    """What each token is: its word's part of speech, ``SPACE`` or ``SPECIAL``.

    Tokenizers that trim their offsets give a token of spaces alone no character; it is ``SPACE``
    as one whose characters are all in no word.

    Returns:
        (T,) place in ``CATEGORIES``.
    """
    places = np.array(spans, np.int64).reshape(-1, 2)
    word = align(places[:, 0], places[:, 1], words)
    tags = np.append(words.tags, np.int8(CATEGORIES.index(SPACE)))  # the last one is for NO_WORD
    found: NDArray[np.int8] = tags[word].astype(np.int8)
    found[places[:, 0] < 0] = CATEGORIES.index(SPECIAL)
    return found
