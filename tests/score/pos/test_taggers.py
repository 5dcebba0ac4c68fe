import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.score.pos import hanta
from sweeper.score.pos.claws import TAGS
from sweeper.score.pos.taggers import check, choose
from sweeper.score.pos.tags import UPOS
from sweeper.spec.task import AutoTagger, HantaTagger, SpacyTagger, SurprisalSpec

ABSENT = "no_such_model_of_spacy"


def named(text, words):
    places = zip(words.begins, words.ends, words.tags, strict=True)
    return [(text[begin:end], UPOS[tag]) for begin, end, tag in places]


def test_hanta_on_sentences_tagged_by_hand():
    text = (
        "The authors can't have been told that John's 24 @-@ year-old cars didn 't cost "
        "1 @,@ 000 $ . He gave up , and “ she ” has to go to Paris in 1999 .\n = Title = \n"
    )
    expected = (
        "The/DET authors/NOUN ca/AUX n't/PART have/AUX been/AUX told/VERB that/SCONJ John/PROPN "
        "'s/PART 24/NUM @-@/PUNCT year/NOUN -/PUNCT old/ADJ cars/NOUN did/AUX n_'t/PART cost/VERB "
        "1_@,@_000/NUM $/SYM ./PUNCT He/PRON gave/VERB up/ADP ,/PUNCT and/CCONJ “/PUNCT she/PRON "
        "”/PUNCT has/VERB to/PART go/VERB to/ADP Paris/PROPN in/ADP 1999/NUM ./PUNCT =/SYM "
        "Title/NOUN =/SYM"
    )
    found = [f"{word}/{tag}".replace(" ", "_") for word, tag in named(text, hanta.tag(text))]
    assert found == expected.split()


def test_hanta_knows_no_tag_that_has_no_universal_one():
    model = hanta._model()
    assert {model.int2tag[-number] for number in model.int2tag if number < 0} <= TAGS


def test_hanta_takes_an_endless_word_and_an_empty_text():
    assert len(hanta.tag("x" * 100_000).tags) == 1
    assert len(hanta.tag(" \n ").tags) == 0


def test_spacys_own_words_and_tags(spacy_rules):
    text = "The cat  can't\n\nstay, the end."
    words = choose(SpacyTagger(model=str(spacy_rules))).tag(text)
    assert named(text, words) == [
        *(("The", "DET"), ("cat", "NOUN"), ("ca", "AUX"), ("n't", "PART")),
        *(("stay", "X"), (",", "PUNCT"), ("the", "DET"), ("end", "X"), (".", "PUNCT")),
    ]


@pytest.mark.parametrize("meta", ["{}", "[]", "no json"])
def test_a_folder_that_is_no_model_is_refused(tmp_path, meta):
    pytest.importorskip("spacy", reason="spaCy is not installed")
    (tmp_path / "meta.json").write_text(meta)
    with pytest.raises(UserError, match=r"^tagger\.model: .* tells no lang, name and version$"):
        choose(SpacyTagger(model=str(tmp_path)))


def test_a_pipeline_without_parts_of_speech_is_refused(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    spacy.blank("en").to_disk(tmp_path / "blank")
    tagger = choose(SpacyTagger(model=str(tmp_path / "blank")))
    with pytest.raises(UserError, match=r"^tagger\.model: .* gives no parts of speech$"):
        tagger.tag("The cat.")


def test_auto_takes_spacy_where_its_model_is(spacy_rules, caplog):
    spec = AutoTagger(model=str(spacy_rules))
    identity = choose(spec).identity
    assert identity["tagger"] == "spaCy"
    assert identity["version"] == version("spacy")
    assert identity == choose(SpacyTagger(model=str(spacy_rules))).identity
    with caplog.at_level(logging.INFO):
        check(spec, "suite.s")
    assert "suite.s.tagger: parts of speech are those of spaCy" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_another_model_in_the_same_folder_is_another_tagger(spacy_rules):
    spec = SpacyTagger(model=str(spacy_rules))
    before = choose(spec).identity
    assert choose(spec).identity == before
    (spacy_rules / "attribute_ruler" / "patterns").write_bytes(b"")
    assert choose(spec).identity != before


def test_auto_says_aloud_that_it_falls_back(caplog):
    spec = AutoTagger(model=ABSENT)
    assert choose(spec).identity == choose(HantaTagger()).identity
    check(spec, "suite.s")
    assert caplog.messages == [
        f"suite.s.tagger: parts of speech are those of HanTa {version('HanTa')} (rules "
        f"{hanta.RULES}), since spaCy's model '{ABSENT}' is not installed"
    ]


def test_a_model_that_is_asked_for_and_absent_is_an_error(tmp_path, monkeypatch):
    pytest.importorskip("spacy", reason="spaCy is not installed")
    with pytest.raises(UserError, match=rf"^suite\.s\.tagger\.model: .*'{ABSENT}' is not inst"):
        check(SpacyTagger(model=ABSENT), "suite.s")
    with pytest.raises(UserError, match=r"^suite\.s\.tagger\.model: .* is no folder of a spaCy"):
        check(SpacyTagger(model=str(tmp_path)), "suite.s")
    monkeypatch.setattr("sweeper.score.pos.spacy_model._version", lambda package: None)
    with pytest.raises(UserError, match=r"^suite\.s\.tagger\.kind: spaCy is not installed; "):
        check(SpacyTagger(model=ABSENT), "suite.s")


def test_a_folder_is_absolute_for_the_workers(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    spec = SurprisalSpec.model_validate(
        {"corpus": "c", "tagger": {"kind": "spacy", "model": "./mine"}}
    )
    assert spec.tagger == SpacyTagger(model=str(Path(tmp_path, "mine")))
    assert SurprisalSpec(corpus="c").tagger == AutoTagger(model="en_core_web_sm")


def test_identities_need_neither_model_nor_torch():
    code = (
        "from sweeper.score.tasks.surprisal import facts; from sweeper.spec import *;"
        "facts(SurprisalSpec(corpus='c'), TopicsCorpus(limit=1)); import sys;"
        "print([n for n in ('torch', 'spacy', 'HanTa', 'nltk') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
