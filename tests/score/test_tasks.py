import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sweeper.errors import UserError
from sweeper.score.logprobs import TokenBudget, token_logprobs
from sweeper.score.tasks import FACTS, PREPARE, parse_corpus, parse_task
from sweeper.score.tokens import windows
from sweeper.spec.corpus import FileCorpus
from sweeper.spec.task import FilePairs, MinimalPairsSpec, PerplexitySpec


def test_every_kind_of_task_is_registered():
    assert FACTS.keys() == PREPARE.keys() == {"perplexity", "minimal_pairs"}


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "story.txt"
    file.write_text("Once upon a time, there was a little girl named Lily. " * 30)
    return FileCorpus(path=str(file))


def test_perplexity_equals_a_plain_loop(stories, corpus):
    spec = PerplexitySpec(corpus="story", length=50)
    task = PREPARE["perplexity"](stories.tokenizer, stories.checkpoint.context, spec, corpus)
    items = task.items(token_logprobs(stories, task.rows, TokenBudget(256)))
    found = math.exp(-items["logprob"].sum() / items["num_tokens"].sum())
    ids = stories.tokenizer(Path(corpus.path).read_text(), return_tensors="pt")["input_ids"]
    losses, count = 0.0, 0
    for start in range(0, ids.shape[1], 50):
        window = ids[:, start : start + 50]
        if window.shape[1] > 1:
            with torch.inference_mode():
                loss = stories.model(input_ids=window, labels=window).loss
            losses += float(loss) * (window.shape[1] - 1)
            count += window.shape[1] - 1
    assert items["num_tokens"].sum() == count
    assert found == pytest.approx(math.exp(losses / count), rel=1e-5)
    assert items["correct"].isna().all()


def test_windows_are_cut_to_the_context_and_the_limit(stories, corpus):
    spec = PerplexitySpec(corpus="story", length=2048, limit=1)
    task = PREPARE["perplexity"](stories.tokenizer, 16, spec, corpus)
    assert [len(row) for row in task.rows] == [16]


def test_text_without_tokens_is_an_error(stories, tmp_path):
    file = tmp_path / "empty.txt"
    file.write_text("")
    with pytest.raises(UserError, match="corpus 'story' holds no text"):
        PREPARE["perplexity"](
            stories.tokenizer, 16, PerplexitySpec(corpus="story"), FileCorpus(path=str(file))
        )


def write_pairs(folder, rows):
    file = folder / "pairs.jsonl"
    names = ("sentence_good", "sentence_bad", "UID", "linguistics_term", "pair_id")
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    file.write_text("\n".join(lines))
    return MinimalPairsSpec(source=FilePairs(path=str(file)))


def test_pairs_equal_a_plain_loop(stories, tmp_path):
    rows = [
        ("The dogs run.", "The dogs runs.", "agreement", "verbs", 0),
        ("Lily saw a big red ball.", "Lily saw a big red.", "objects", "verbs", 0),
        ("The same.", "The same.", "ties", "none", 0),
    ]
    spec = write_pairs(tmp_path, rows)
    for reduce in ("sum", "mean"):
        task = PREPARE["minimal_pairs"](
            stories.tokenizer, 512, spec.model_copy(update={"reduce": reduce}), None
        )
        items = task.items(token_logprobs(stories, task.rows, TokenBudget(256)))
        for row, item in zip(rows, items.itertuples(), strict=True):
            good, bad = (sentence_score(stories, text, reduce) for text in row[:2])
            assert item.margin == pytest.approx(good - bad, abs=1e-3)
            # Strictly: a tie is not correct.
            assert item.correct == (good > bad)
        assert items["cluster"].tolist() == ["agreement", "objects", "ties"]
        assert items["group"].tolist() == ["verbs", "verbs", "none"]


def sentence_score(model, text: str, reduce: str) -> float:
    ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
    assert ids[0, 0] == model.tokenizer.bos_token_id  # Llama's tokenizer adds it
    with torch.inference_mode():
        loss = float(model.model(input_ids=ids, labels=ids).loss)
    return -loss * (1 if reduce == "mean" else ids.shape[1] - 1)


def test_a_sentence_that_cannot_be_scored_names_its_pair(stories, tmp_path):
    spec = write_pairs(tmp_path, [("A " * 40, "B.", "long", "g", 7)])
    with pytest.raises(UserError, match=r"pair long/7: a sentence of \d+ tokens; allowed are 2 to"):
        PREPARE["minimal_pairs"](stories.tokenizer, 16, spec, None)


def test_facts_know_the_data_and_the_rules(tmp_path, corpus):
    rows = [("The dogs run.", "The dogs runs.", "agreement", "verbs", n) for n in range(3)]
    spec = write_pairs(tmp_path, rows)
    facts = FACTS["minimal_pairs"](spec, None)
    assert (facts.num_items, facts.num_clusters) == (3, 1)
    assert facts.identity == FACTS["minimal_pairs"](spec, None).identity
    for change in ({"limit": 2}, {"reduce": "mean"}):
        changed = FACTS["minimal_pairs"](spec.model_copy(update=change), None)
        assert changed.identity != facts.identity
    perplexity = PerplexitySpec(corpus="story", length=50)
    shorter = perplexity.model_copy(update={"length": 40})
    one, two = (FACTS["perplexity"](task, corpus).identity for task in (perplexity, shorter))
    assert one["data"] == two["data"]
    assert one != two


def test_specs_travel_as_plain_data(corpus):
    spec = PerplexitySpec(corpus="story", length=50)
    assert parse_task(json.loads(json.dumps(spec.model_dump()))) == spec
    assert parse_corpus(json.loads(json.dumps(corpus.model_dump()))) == corpus
    assert parse_corpus(None) is None


class Letters:
    """A tokenizer with a token per letter, enough to see how windows are cut."""

    def __call__(self, texts, verbose):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


@pytest.mark.parametrize(
    ("text", "length", "stride", "expected"),
    [
        ("abcdefgh", 4, 4, ["abcd", "efgh"]),
        ("abcdefghij", 4, 4, ["abcd", "efgh", "ij"]),
        ("abcdefghi", 4, 4, ["abcd", "efgh"]),  # one token has nothing to predict
        ("abcdefgh", 4, 2, ["abcd", "cdef", "efgh"]),  # and no window without new text
        ("abcdefg", 4, 2, ["abcd", "cdef", "efg"]),
        ("abc", 4, 4, ["abc"]),
        ("a", 4, 4, []),
        ("", 4, 4, []),
    ],
)
def test_windows(text, length, stride, expected):
    cut = windows(Letters(), text, length, stride, None)
    assert ["".join(map(chr, row)) for row in cut] == expected
    assert windows(Letters(), text, length, stride, 1) == cut[:1]


def test_items_have_the_columns_of_the_table(stories, corpus):
    from sweeper.store.schemas import ITEMS

    task = PREPARE["perplexity"](stories.tokenizer, 64, PerplexitySpec(corpus="story"), corpus)
    frame = task.items([np.zeros(len(row) - 1, np.float32) for row in task.rows])
    assert isinstance(frame, pd.DataFrame)
    assert [*frame.columns] == [n for n in ITEMS.names if n not in ("cell_key", "attempt")]
