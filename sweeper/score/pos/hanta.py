"""The tagger HanTa: a trigram model over words that are analysed into morphemes, pure Python.

C. Wartena, A Probabilistic Morphology Model for German Lemmatization, KONVENS 2019;
https://github.com/wartaal/HanTa. Its English model comes with the package, so its version tells
which one that is. The model's tags are those of CLAWS C5.
"""

import re
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from sweeper.score.pos import claws
from sweeper.score.pos.tags import Words, make_words
from sweeper.score.pos.words import find_words, sentences

RULES = 1
"""Part of the tagger's identity: a change of how words are cut or tags are mapped raises it."""

LONGEST = 40
"""Characters of a word that HanTa gets to see, the last ones: its analysis of an unknown word takes
time with the cube of the length, and a suffix tells the most."""

_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "«": '"', "»": '"', "–": "—"})
_MARK = re.compile(r" ?@([-,.])@ ?| +")


def identity() -> dict[str, str]:
    """What the tags depend on besides the text."""
    return {"tagger": "HanTa", "version": version("HanTa"), "rules": str(RULES)}


def tag(text: str) -> Words:
    """Find a text's words and their parts of speech.

    Time grows linearly with the text: 240,000 words take about 10 s.
    """
    places = find_words(text)
    words = [text[begin:end] for begin, end in places]
    names: list[str] = []
    for begin, end in sentences(text, places):
        sentence = words[begin:end]
        # Level 0: tags without the analysis into morphemes.
        tags = _model().tag_sent([_as_known(word) for word in sentence], taglevel=0)
        names += claws.universal(sentence, tags)
    return make_words(places, names)


def _as_known(word: str) -> str:
    """A word as the model knows it: straight quotes, "n't" and "1,000" without gaps."""
    return _MARK.sub(r"\1", word.translate(_PLAIN))[-LONGEST:]


@lru_cache(maxsize=1)
def _model() -> Any:
    from HanTa.HanoverTagger import HanoverTagger

    return HanoverTagger("morphmodel_en.pgz")
