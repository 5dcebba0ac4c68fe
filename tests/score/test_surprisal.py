import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sweeper.errors import UserError
from sweeper.score.pos.taggers import choose
from sweeper.score.pos.tags import CATEGORIES
from sweeper.score.tasks import FACTS, PREPARE, WithTables, WithVersions, parse_task
from sweeper.score.texts import Scores
from sweeper.score.tokens import window_spans
from sweeper.spec.corpus import FileCorpus
from sweeper.spec.task import HantaTagger, PerplexitySpec, SpacyTagger, SurprisalSpec

TEXT = """ = The Cat =

 The cat didn 't see 24 @-@ year @-@ old dogs , which cost 1 @,@ 000 $ .  Dr. Lily has been there ;
they'll give up their café 日本 🙂 in 1999 . "Do you know?"   He said no …
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT * 6, encoding="utf-8")
    return FileCorpus(path=str(file))


def gpt2_tokenizer(folder) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(BPE.from_file(str(folder / "encoder.json"), str(folder / "vocab.bpe")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


@pytest.fixture(params=["gpt2", "gpt_neox", "llama", "tiny"])
def tokenizer(request, shared, tiny_folder):
    """Byte-level ones with and without trimmed offsets, and one with pieces and bytes."""
    files = shared / "data" / "tokenizer"
    if request.param == "gpt2":
        return gpt2_tokenizer(files / "gpt2")
    if request.param == "gpt_neox":
        return PreTrainedTokenizerFast(
            tokenizer_file=str(files / "20B_tokenizer.json"), bos_token="<|endoftext|>"
        )
    if request.param == "llama":
        return AutoTokenizer.from_pretrained(shared / "models" / "stories260K")
    return AutoTokenizer.from_pretrained(tiny_folder("llama"))


def spec_of(**changes) -> SurprisalSpec:
    return SurprisalSpec(**{"corpus": "c", "length": 30, "tagger": HantaTagger(), **changes})


def made_up(texts) -> Scores:
    """Log-probabilities whose sums are exact in any order."""
    random = np.random.default_rng(0)
    logprobs = [
        (-random.integers(0, 2**12, len(row) - 1) / 2**8).astype(np.float32) for row in texts.rows
    ]
    return Scores(logprobs=logprobs, greedy=None, values_seen=0, values_changed=0)


@pytest.mark.parametrize("prefix", ["tokenizer", "bos", "none"])
def test_the_parts_add_up_to_perplexity(tokenizer, corpus, prefix):
    changes = {"prefix": prefix, "limit": 9}
    task = PREPARE["surprisal"](tokenizer, 512, spec_of(**changes), corpus)
    whole = PREPARE["perplexity"](
        tokenizer, 512, PerplexitySpec(corpus="c", length=30, **changes), corpus
    )
    assert task.texts.rows == whole.texts.rows
    scores = made_up(task.texts)
    parts = task.items(scores).groupby("cluster")[["logprob", "num_tokens"]].sum()
    expected = whole.items(scores).set_index("cluster")[["logprob", "num_tokens"]]
    assert len(expected) == 9
    assert (parts == expected).all(axis=None)


def test_every_token_counts_for_the_word_it_shares_most_with(tokenizer, corpus):
    task = PREPARE["surprisal"](tokenizer, 512, spec_of(), corpus)
    scores = made_up(task.texts)
    text = TEXT * 6
    words = choose(HantaTagger()).tag(text)
    owner = [None] * len(text)
    for index, (begin, end) in enumerate(zip(words.begins, words.ends, strict=True)):
        owner[begin:end] = [index] * (end - begin)
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    places = window_spans(tokenizer, text, 30, 30, None)
    for number, (spans, logprobs) in enumerate(zip(places, scores.logprobs, strict=True)):
        for (begin, end), logprob in zip(spans[1:], logprobs, strict=True):
            near = [word for word in owner[begin:end] if word is not None] if begin >= 0 else []
            best = max(dict.fromkeys(near), key=near.count, default=None)
            group = "SPACE" if best is None else CATEGORIES[words.tags[best]]
            name = f"window{number:05d}/{'SPECIAL' if begin < 0 else group}"
            sums[name] = sums.get(name, 0.0) + float(logprob)
            counts[name] = counts.get(name, 0) + 1
    items = task.items(scores).set_index("item_id")
    assert items["logprob"].to_dict() == sums
    assert items["num_tokens"].to_dict() == counts
    assert (items["group"] == [name.split("/")[1] for name in items.index]).all()
    assert {"DET", "AUX", "PART", "PUNCT", "NOUN", "SPACE"} <= set(items["group"])


def test_items_have_the_columns_of_the_table(tokenizer, corpus):
    from sweeper.store.schemas import ITEMS

    task = PREPARE["surprisal"](tokenizer, 512, spec_of(), corpus)
    frame = task.items(made_up(task.texts))
    assert [*frame.columns] == [n for n in ITEMS.names if n not in ("cell_key", "attempt")]
    assert frame["item"].tolist() == list(range(len(frame)))
    assert frame["item_id"].is_unique


def test_kept_tokens_belong_to_the_item_of_their_part_of_speech(tokenizer, corpus):
    task = PREPARE["surprisal"](tokenizer, 512, spec_of(keep_tokens=True), corpus)
    assert isinstance(task, WithTables)
    scores = made_up(task.texts)
    tokens, items = task.tables(scores)["tokens"], task.items(scores).set_index("item")
    by_item = tokens.groupby("item")["surprisal"]
    np.testing.assert_array_equal(-by_item.sum().astype(float), items["logprob"])
    np.testing.assert_array_equal(by_item.size(), items["num_tokens"])
    places = tokens.dropna(subset=["char_begin"])
    determiners = places[places["item"].map(items["group"]) == "DET"]
    shown = {
        (TEXT * 6)[begin:end].strip().lower()
        for begin, end in zip(determiners["char_begin"], determiners["char_end"], strict=True)
    }
    # A tokenizer of few entries has parts of words; they are parts of determiners all the same.
    assert shown
    assert all(any(part in word for word in ("the", "no")) for part in shown)
    plain = PREPARE["surprisal"](tokenizer, 512, spec_of(), corpus)
    assert plain.tables(scores) == {}


def test_a_model_of_spacy_does_as_well(tokenizer, corpus, tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("attribute_ruler").add([[{"LOWER": "the"}]], {"POS": "DET"})
    pipeline.to_disk(tmp_path / "rules")
    tagger = SpacyTagger(model=str(tmp_path / "rules"))
    task = PREPARE["surprisal"](tokenizer, 512, spec_of(tagger=tagger), corpus)
    items = task.items(made_up(task.texts))
    assert set(items["group"]) - {"SPECIAL"} == {"DET", "X", "SPACE"}
    assert isinstance(task, WithVersions)
    assert task.versions["tagger"].startswith("spaCy ")


def test_a_tokenizer_without_places_is_refused(tokenizer, corpus):
    class Slow:
        is_fast = False

        def __call__(self, *args, **kwargs):
            return tokenizer(*args, **kwargs)

    with pytest.raises(UserError, match=r"tokenizer that tells the characters .* Slow does"):
        PREPARE["surprisal"](Slow(), 512, spec_of(), corpus)


def test_facts_name_the_tagger(corpus, tmp_path):
    facts = FACTS["surprisal"](spec_of(), corpus)
    assert not facts.has_accuracy
    assert facts.identity == FACTS["surprisal"](spec_of(), corpus).identity
    assert facts.identity["tagger"] == dict(choose(HantaTagger()).identity)
    # The worker compares this, so one that has another tagger refuses.
    assert choose(HantaTagger()).label in facts.identity["data"]
    for change in ({"length": 31}, {"limit": 2}, {"prefix": "bos"}, {"keep_tokens": True}):
        assert FACTS["surprisal"](spec_of(**change), corpus).identity != facts.identity
    perplexity = FACTS["perplexity"](PerplexitySpec(corpus="c", length=30), corpus)
    assert perplexity.identity["data"] != facts.identity["data"]
    assert perplexity.positions == facts.positions


def test_auto_is_the_same_cell_as_the_tagger_it_comes_to(corpus):
    auto = spec_of(tagger={"kind": "auto", "model": "no_such_model"})
    assert FACTS["surprisal"](auto, corpus) == FACTS["surprisal"](spec_of(), corpus)


def test_the_specification_travels_as_plain_data():
    for spec in (spec_of(), SurprisalSpec(corpus="c"), spec_of(tagger=SpacyTagger(model="m"))):
        assert parse_task(json.loads(json.dumps(spec.model_dump()))) == spec
