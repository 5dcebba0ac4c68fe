import pytest

from sweeper.score.pos.claws import TAGS, by_shape, universal
from sweeper.score.pos.tags import UPOS


def tagged(line: str) -> list[str]:
    """Universal tags of a sentence written as word/C5."""
    pairs = [item.rsplit("/", 1) for item in line.split()]
    return universal([word for word, _ in pairs], [tag for _, tag in pairs])


# Expected tags by hand, after the English guidelines of Universal Dependencies.
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("The/AT0 two/CRD old/AJ0 cats/NN2 slept/VVD ./PUN", "DET NUM ADJ NOUN VERB PUNCT"),
        ("She/PNP has/VHZ not/XX0 been/VBN told/VVN", "PRON AUX PART AUX VERB"),
        ("They/PNP have/VHB a/AT0 dog/NN1", "PRON VERB DET NOUN"),
        ("He/PNP has/VHZ to/TO0 go/VVI", "PRON VERB PART VERB"),
        ("Had/VHD he/PNP ever/AV0 seen/VVN it/PNP ?/PUN", "AUX PRON ADV VERB PRON PUNCT"),
        ("It/PNP did/VDD n't/XX0 matter/VVI", "PRON AUX PART VERB"),
        ("He/PNP did/VDD his/DPS work/NN1", "PRON VERB PRON NOUN"),
        ("What/DTQ do/VDB the/AT0 men/NN2 say/VVI", "PRON AUX DET NOUN VERB"),
        ("He/PNP must/VM0 give/VVI up/AVP", "PRON AUX VERB ADP"),
        ("John/NP0 's/POS first/ORD book/NN1", "PROPN PART ADJ NOUN"),
        ("the/AT0 students/NN2 '/POS book/NN1", "DET NOUN PART NOUN"),
        ("'/PUQ yes/ITJ '/PUQ", "PUNCT INTJ PUNCT"),
        ("all/DT0 these/DT0 very/AV0 old/AJ0 men/NN2", "DET DET ADV ADJ NOUN"),
        ("I/PNP like/VVB this/DT0 ./PUN", "PRON VERB PRON PUNCT"),
        ("the/AT0 dog/NN1 which/DTQ barks/VVZ", "DET NOUN PRON VERB"),
        ("such/DT0 many/DT0 own/DT0 words/NN2", "ADJ ADJ ADJ NOUN"),
        ("and/CJC that/CJT if/CJS of/PRF when/AVQ there/EX0", "CCONJ SCONJ SCONJ ADP ADV PRON"),
        ("50/CRD %/UNC of/PRF <unk>/NN1 &/CJC la/UNC", "NUM SYM ADP X CCONJ X"),
        ("24/CRD @-@/UNC year/NN1 1,000/UNC", "NUM PUNCT NOUN NUM"),
    ],
)
def test_a_sentence(line, expected):
    assert tagged(line) == expected.split()


def test_every_tag_of_the_corpus_has_a_universal_one():
    found = {universal(["word", "next"], [tag, "NN1"])[0] for tag in TAGS}
    assert found == set(UPOS) - {"PUNCT", "SYM"}


def test_an_unknown_tag_is_an_error():
    with pytest.raises(KeyError, match="VBX"):
        universal(["word"], ["VBX"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (". , ; : ? ! ... -- — – ( ) [ ] \" “ ” ' ’ `` '' @-@ @,@", "PUNCT"),
        ("$ £ % = + < > ° # * / § ~ ^ ☃", "SYM"),
        ("&", "CCONJ"),
        ("<unk> www.a.org https://a.org/b \u200b", "X"),
        ("7 1,000.5 1999", "NUM"),
        ("word 20th U.S. 's n't o'clock", None),
    ],
)
def test_what_characters_alone_tell(words, expected):
    assert {by_shape(word) for word in words.split(" ")} == {expected}
