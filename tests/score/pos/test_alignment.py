import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sweeper.score.pos.alignment import NO_WORD, align, categories
from sweeper.score.pos.tags import CATEGORIES, UPOS, Words, make_words
from sweeper.score.tokens import NO_SPAN


def words_at(places) -> Words:
    return make_words(places, ["NOUN"] * len(places))


def brute_force(begin: int, end: int, places) -> int:
    shared = [len(set(range(begin, end)) & set(range(*place))) for place in places]
    return shared.index(max(shared)) if any(shared) else NO_WORD


def tokens(spans):
    array = np.array(spans, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


@st.composite
def cut_texts(draw):
    """Words with gaps between, and tokens of any length that cover each other at will."""
    edges = draw(st.lists(st.integers(0, 60), unique=True, max_size=24).map(sorted))
    if len(edges) % 2:
        edges.pop()
    places = list(zip(edges[::2], edges[1::2], strict=True))
    spans = draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=20))
    return places, [(begin, begin + length) for begin, length in spans]


@given(cut_texts())
def test_alignment_is_that_of_a_comparison_with_every_word(case):
    places, spans = case
    found = align(*tokens(spans), words_at(places))
    assert found.tolist() == [brute_force(*span, places) for span in spans]


def test_of_equal_overlaps_the_first_counts():
    places = [(0, 3), (3, 6), (7, 8)]
    assert align(*tokens([(1, 5), (2, 7), (4, 8), (6, 7)]), words_at(places)).tolist() == [
        *(0, 1, 1),
        NO_WORD,
    ]


def test_spaces_and_special_tokens_are_categories_of_their_own():
    words = make_words([(0, 3), (5, 6)], ["DET", "PUNCT"])
    spans = [NO_SPAN, (0, 3), (3, 5), (4, 4), (4, 6), (6, 6), NO_SPAN]
    names = [CATEGORIES[code] for code in categories(spans, words)]
    assert names == ["SPECIAL", "DET", "SPACE", "SPACE", "PUNCT", "SPACE", "SPECIAL"]


def test_a_text_without_words_is_space():
    assert [CATEGORIES[code] for code in categories([(0, 2)], words_at([]))] == ["SPACE"]
    assert categories([], words_at([(0, 1)])).tolist() == []


def test_categories_begin_with_the_universal_tags():
    assert CATEGORIES[: len(UPOS)] == UPOS
    assert len(set(CATEGORIES)) == 19
