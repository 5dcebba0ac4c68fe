import hashlib
import re
from collections import Counter

import pytest

from sweeper.score.grammar import PAIRS_PER_PARADIGM, PARADIGMS, generate

SUITE = generate()
UIDS = list(SUITE["UID"].unique())
CONTENT = "5d2dd6b7426c751fe14fdf96ffc412b2f98d42c7f2473d169917937cc915ca30"


def words(sentences):
    return Counter(word for text in sentences for word in text.lower().rstrip(".").split())


def test_the_suite_is_large_enough_and_named():
    assert list(SUITE.columns) == [
        "sentence_good",
        "sentence_bad",
        "UID",
        "linguistics_term",
        "pair_id",
    ]
    assert len(UIDS) == len(set(UIDS)) >= 14
    assert set(SUITE["linguistics_term"]) == set(PARADIGMS)
    assert (SUITE.groupby("UID").size() == PAIRS_PER_PARADIGM).all()
    assert len(SUITE[["sentence_good", "sentence_bad"]].drop_duplicates()) == len(SUITE) >= 3000


def test_pairs_are_numbered_in_each_paradigm():
    assert (SUITE.groupby("UID").cumcount() == SUITE["pair_id"]).all()


def test_the_content_is_the_same_on_every_machine():
    text = SUITE.to_csv(index=False, lineterminator="\n")
    assert hashlib.sha256(text.encode()).hexdigest() == CONTENT


@pytest.mark.parametrize("column", ["sentence_good", "sentence_bad"])
def test_sentences_are_plain_english_text(column):
    form = re.compile(r"[A-Z][a-z]*(,? [A-Za-z]+)+\.")
    assert [text for text in SUITE[column] if not form.fullmatch(text)] == []


@pytest.mark.parametrize("uid", UIDS)
def test_no_word_tells_good_from_bad(uid):
    rows = SUITE[SUITE["UID"] == uid]
    assert words(rows["sentence_good"]) == words(rows["sentence_bad"])


@pytest.mark.parametrize("uid", UIDS)
def test_the_first_pairs_are_balanced_too(uid):
    rows = SUITE[SUITE["UID"] == uid].head(20)
    assert words(rows["sentence_good"]) == words(rows["sentence_bad"])


@pytest.mark.parametrize("uid", UIDS)
def test_no_sentence_is_good_here_and_bad_there(uid):
    rows = SUITE[SUITE["UID"] == uid]
    assert not set(rows["sentence_good"]) & set(SUITE["sentence_bad"])


@pytest.mark.parametrize("uid", [uid for uid in UIDS if uid.startswith("agreement_")])
def test_the_verb_alone_differs_in_agreement(uid):
    rows = SUITE[SUITE["UID"] == uid]
    good, bad = Counter(), Counter()
    for one, other in zip(rows["sentence_good"], rows["sentence_bad"], strict=True):
        ours, theirs = one.rstrip(".").split(), other.rstrip(".").split()
        ((right, wrong),) = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
        good[right] += 1
        bad[wrong] += 1
    assert good == bad


def test_singular_and_plural_subjects_are_equally_frequent():
    rows = SUITE[SUITE["UID"] == "agreement_past_be"]
    verbs = words(rows["sentence_good"])
    assert verbs["was"] == verbs["were"] == PAIRS_PER_PARADIGM // 2
