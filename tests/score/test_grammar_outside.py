import hashlib
import itertools

import pytest

from sweeper.score.grammar import PARADIGMS, generate, sentences_outside_suite

ALL = {paradigm.uid: paradigm for entries in PARADIGMS.values() for paradigm in entries}


@pytest.fixture(scope="module")
def suite():
    return generate()


@pytest.fixture(scope="module")
def drawn() -> list[str]:
    return sentences_outside_suite(5000)


def test_no_evaluated_sentence_is_drawn(suite, drawn):
    assert len(set(drawn)) > 50_000
    assert set(drawn).isdisjoint(suite["sentence_good"])
    assert set(drawn).isdisjoint(suite["sentence_bad"])


def test_no_evaluated_sentence_is_a_part_of_one_that_is_drawn(suite):
    """Wherever in it, by brute force over all its runs of words."""
    evaluated = {plain(text) for text in (*suite["sentence_good"], *suite["sentence_bad"])}
    for sentence in sentences_outside_suite(300):
        words = plain(sentence).split()
        places = itertools.combinations(range(len(words) + 1), 2)
        assert evaluated.isdisjoint(" ".join(words[first:last]) for first, last in places)


def plain(sentence: str) -> str:
    return sentence.lower().removesuffix(".")


@pytest.mark.parametrize("uid", ["reflexive_number", "reflexive_gender", "npi_only_even"])
def test_a_small_paradigm_gives_all_that_the_suite_leaves_and_nothing_else(suite, drawn, uid):
    """A choice of words is either evaluated or free for training, in all its forms; brute force."""
    evaluated = {*suite["sentence_good"], *suite["sentence_bad"]}
    frames = [ALL[uid].frame(*words) for words in itertools.product(*ALL[uid].slots)]
    acceptable = {good for frame in frames for good, _ in frame}
    free = {
        good
        for frame in frames
        if not evaluated & set(itertools.chain(*frame))
        for good, _ in frame
    }
    assert set(drawn) & acceptable == free
    assert len(free) > 90


def test_every_paradigm_gives_as_many_and_all_words_of_the_suite_occur(suite):
    few = sentences_outside_suite(300)
    assert len(few) == 300 * len(ALL)
    words = {word for sentence in few for word in sentence.split()}
    assert {word for sentence in suite["sentence_good"] for word in sentence.split()} <= words


def test_the_draw_is_the_same_everywhere():
    few = "\n".join(sentences_outside_suite(20))
    assert hashlib.sha256(few.encode()).hexdigest()[:16] == "880f907fcbc38881"
