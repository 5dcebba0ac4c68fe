import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.score.pos.words import find_words, sentences


def words_of(text: str) -> list[str]:
    return [text[begin:end] for begin, end in find_words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The dog's bone.", ["The", "dog", "'s", "bone", "."]),
        ("They can't, won’t, didn't", ["They", "ca", "n't", ",", "wo", "n’t", ",", "did", "n't"]),
        ("he didn 't say", ["he", "did", "n 't", "say"]),
        ("I'll, we've, cannot", ["I", "'ll", ",", "we", "'ve", ",", "can", "not"]),
        ("gonna gotta canny", ["gon", "na", "got", "ta", "canny"]),
        ("24-year-old", ["24", "-", "year", "-", "old"]),
        ("24 @-@ year", ["24", "@-@", "year"]),
        ("1 @,@ 000 @.@ 5 m", ["1 @,@ 000 @.@ 5", "m"]),
        ("1,000.5 and 20th", ["1,000.5", "and", "20th"]),
        ("in 1999.", ["in", "1999", "."]),
        ("the U.S. Army", ["the", "U.S.", "Army"]),
        ("Dr. No. 7, J. R. Smith", ["Dr.", "No.", "7", ",", "J.", "R.", "Smith"]),
        ("the <unk> of", ["the", "<unk>", "of"]),
        ("o'clock O’Brien students'", ["o'clock", "O’Brien", "students", "'"]),
        ('wait ... "so" -- yes', ["wait", "...", '"', "so", '"', "--", "yes"]),
        ("see https://a.org/b?c=d. Now", ["see", "https://a.org/b?c=d", ".", "Now"]),
        ("café 日本", ["café", "日本"]),
        (" = Title = ", ["=", "Title", "="]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words_of(text) == expected


@given(st.text(alphabet="ab1 .,'’n t@-\n<>é日$_", max_size=60))
def test_every_visible_character_is_in_one_word(text):
    places = find_words(text)
    covered = [place for begin, end in places for place in range(begin, end)]
    assert covered == sorted(set(covered))
    outside = set(range(len(text))) - set(covered)
    assert all(text[place].isspace() for place in outside)
    assert all(end > begin for begin, end in places)


def sentences_of(text: str) -> list[str]:
    places = find_words(text)
    return [
        " ".join(text[slice(*place)] for place in places[begin:end])
        for begin, end in sentences(text, places)
    ]


def test_sentences_end_at_final_marks_and_lines():
    text = ' = Title = \n He said : " Go ! " Then (see Dr. No.) he left...\nAn end'
    assert sentences_of(text) == [
        "= Title =",
        'He said : " Go ! "',
        "Then ( see Dr. No . )",
        "he left ...",
        "An end",
    ]
    assert sentences_of("") == []


@given(st.text(alphabet='ab .!"\n', max_size=40))
def test_sentences_hold_every_word_once(text):
    places = find_words(text)
    bounds = list(sentences(text, places))
    assert [index for begin, end in bounds for index in range(begin, end)] == list(
        range(len(places))
    )
