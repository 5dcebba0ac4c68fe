"""From CLAWS C5, the tags of the British National Corpus, to universal parts of speech.

Where C5 does not tell what Universal Dependencies does, the rules for English are followed as far
as neighbouring words show it (https://universaldependencies.org/en/): *be* and modals are always
AUX; *have* and *do* are AUX with the verb that they help and VERB alone; *to* before an infinitive,
the possessive *'s* and *not* are PART; particles of phrasal verbs (*give up*) are ADP; possessive
determiners (*my*) are PRON; ordinal numbers are ADJ; *this*, *all*, *which* are DET in front of
what they determine and PRON alone; *many*, *such*, *own* and their like are ADJ.
"""

import re
import unicodedata
from collections.abc import Sequence

_UPOS_OF = {
    **dict.fromkeys(("AJ0", "AJC", "AJS", "ORD"), "ADJ"),
    **dict.fromkeys(("PRF", "PRP", "AVP", "IN"), "ADP"),
    **dict.fromkeys(("AV0", "AVQ"), "ADV"),
    **dict.fromkeys(("VBB", "VBD", "VBG", "VBI", "VBN", "VBZ", "VM0"), "AUX"),
    **dict.fromkeys(("NN", "NN0", "NN1", "NN2", "ZZ0"), "NOUN"),
    **dict.fromkeys(("TO0", "POS", "XX0"), "PART"),
    **dict.fromkeys(("DPS", "EX0", "PNI", "PNP", "PNQ", "PNX"), "PRON"),
    **dict.fromkeys(("CJS", "CJT"), "SCONJ"),
    **dict.fromkeys(("VVB", "VVD", "VVG", "VVI", "VVN", "VVZ"), "VERB"),
    # Punctuation is told by its characters; a word with letters under such a tag is none.
    **dict.fromkeys(("PUN", "PUL", "PUR", "PUQ", "UNC", "UNKNOWN", "!!!"), "X"),
    "AT0": "DET",
    "CJC": "CCONJ",
    "CRD": "NUM",
    "ITJ": "INTJ",
    "NP0": "PROPN",
}

_HAVE = {"VHB", "VHD", "VHG", "VHI", "VHN", "VHZ"}
_DO = {"VDB", "VDD", "VDG", "VDI", "VDN", "VDZ"}
_PARTICIPLES = {"VVN", "VBN", "VHN", "VDN", "VVD"}
"""What follows a helping *have*; VVD, since past tense and participle are easily confused."""
_BASES = {"VVI", "VVB", "VBI", "VBB", "VHI", "VHB", "VDI", "VDB"}
"""What follows a helping *do*."""
_BETWEEN = {"AV0", "XX0"}
_REACH = 6
"""Words behind *have* or *do* that are looked at."""
_WH = {"AVQ", "DTQ", "PNQ"}

_DETERMINERS = {"DT0", "DTQ"}
_DETERMINED = {
    *("AJ0", "AJC", "AJS", "ORD", "CRD", "NN", "NN0", "NN1", "NN2", "NP0", "ZZ0", "UNC"),
    *("AT0", "DPS", "DT0", "PNI"),
}
_QUANTIFIERS = {
    *("enough", "few", "fewer", "fewest", "former", "latter", "least", "less", "little", "many"),
    *("more", "most", "much", "own", "same", "several", "such"),
}

_SYMBOLS = set("%#@*/§")
"""Punctuation by Unicode, symbols by Universal Dependencies."""
_QUOTES = set("`´'’")
_APOSTROPHES = {"'", "’"}
_NUMBER = re.compile(r"\d+(?:(?:[.,]| @[.,]@ )\d+)*")
_MARKS = {"@-@", "@,@", "@.@"}

TAGS = frozenset(_UPOS_OF) | _HAVE | _DO | _DETERMINERS
"""All tags that are known."""


def universal(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    """Universal tags of a sentence's words.

    Args:
        words: the words as they stand in the text.
        tags: their C5 tags.

    Raises:
        KeyError: a tag that C5 does not have.
    """
    return [_universal(words, tags, index) for index in range(len(words))]


def _universal(words: Sequence[str], tags: Sequence[str], index: int) -> str:
    word, tag = words[index], tags[index]
    shape = None if tag == "POS" and word in _APOSTROPHES else by_shape(word)
    if shape is not None:
        return shape
    if tag in _HAVE or tag in _DO:
        return "AUX" if _helps(tags, index) else "VERB"
    if tag in _DETERMINERS:
        return _determiner(word.lower(), tags, index)
    return _UPOS_OF[tag]


def by_shape(word: str) -> str | None:
    """What a word is by its characters alone; None where they do not tell."""
    if word == "&":
        return "CCONJ"
    if word in _MARKS:
        return "PUNCT"
    if (word[0] == "<" and word[-1] == ">") or "://" in word or word.startswith("www."):
        return "X"
    if _NUMBER.fullmatch(word):
        return "NUM"
    if any(character.isalnum() for character in word):
        return None
    kinds = {unicodedata.category(character)[0] for character in word if character not in _QUOTES}
    if "S" in kinds or not _SYMBOLS.isdisjoint(word):
        return "SYM"
    return "PUNCT" if kinds <= {"P"} else "X"


def _helps(tags: Sequence[str], index: int) -> bool:
    """Whether *have* or *do* helps another verb.

    It does when that verb follows, with nothing but adverbs, a negation or, in a question, a
    pronoun between. *do* helps in front of a negation and at the head of a question in any case.
    """
    asks = index == 0 or tags[index - 1] in _WH
    wanted = _PARTICIPLES if tags[index] in _HAVE else _BASES
    following = tags[index + 1 : index + 1 + _REACH]
    if tags[index] in _DO and following and (asks or following[0] == "XX0"):
        return True
    for tag in following:
        if tag in wanted:
            return True
        if tag not in _BETWEEN and not (asks and tag == "PNP"):
            return False
    return False


def _determiner(word: str, tags: Sequence[str], index: int) -> str:
    if word in _QUANTIFIERS:
        return "ADJ"
    if word == "whose":
        return "PRON"
    following = tags[index + 1 : index + 3]
    if following[:1] == ["AV0"]:  # all very old men
        following = following[1:]
    return "DET" if following and following[0] in _DETERMINED else "PRON"
