import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sweeper.errors import UserError
from sweeper.records import Condition
from sweeper.score.engine import score_texts
from sweeper.score.memory import TokenBudget
from sweeper.score.tasks import FACTS, PREPARE, WithTables, parse_corpus, parse_task
from sweeper.spec.corpus import FileCorpus
from sweeper.spec.task import FilePairs, MinimalPairsSpec, PerplexitySpec

KINDS = ("perplexity", "surprisal", "minimal_pairs", "lm_eval")


def test_every_kind_of_task_is_registered():
    assert FACTS.keys() == PREPARE.keys() == set(KINDS)


BASELINE = Condition(name="baseline", seed=None, operation=None)


def baseline_scores(model, task):
    (scores,) = score_texts(model, task.texts, [BASELINE], TokenBudget(256))
    return scores


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "story.txt"
    file.write_text("Once upon a time, there was a little girl named Lily. " * 30)
    return FileCorpus(path=str(file))


def test_perplexity_equals_a_plain_loop(stories, corpus):
    spec = PerplexitySpec(corpus="story", length=50)
    task = PREPARE["perplexity"](stories.tokenizer, stories.checkpoint.context, spec, corpus)
    items = task.items(baseline_scores(stories, task))
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
    assert [len(row) for row in task.texts.rows] == [16]


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
        items = task.items(baseline_scores(stories, task))
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
    for change in ({"limit": 2}, {"reduce": "mean"}, {"prefix": "bos"}, {"keep_tokens": True}):
        changed = FACTS["minimal_pairs"](spec.model_copy(update=change), None)
        assert changed.identity != facts.identity
    perplexity = PerplexitySpec(corpus="story", length=50)
    shorter = perplexity.model_copy(update={"length": 40})
    one, two = (FACTS["perplexity"](task, corpus).identity for task in (perplexity, shorter))
    assert one["data"] == two["data"]
    assert one != two
    # A cell without tokens must not stand for one with them.
    for change in ({"prefix": "none"}, {"keep_tokens": True}):
        changed = FACTS["perplexity"](perplexity.model_copy(update=change), corpus).identity
        assert changed != one


def plain_surprisals(model, row: list[int]) -> np.ndarray:
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([row])).logits[0, :-1].double()
    return -logits.log_softmax(-1).gather(-1, torch.tensor(row)[1:, None])[:, 0].numpy()


@pytest.mark.parametrize("prefix", ["tokenizer", "bos", "none"])
def test_kept_tokens_of_a_corpus(stories, corpus, prefix):
    spec = PerplexitySpec(corpus="story", length=20, limit=3, prefix=prefix, keep_tokens=True)
    task = PREPARE["perplexity"](stories.tokenizer, 512, spec, corpus)
    assert isinstance(task, WithTables)
    scores = baseline_scores(stories, task)
    tokens, items = task.tables(scores)["tokens"], task.items(scores)
    text = Path(corpus.path).read_text()
    for item, rows in tokens.groupby("item"):
        row = task.texts.rows[item]
        assert rows["token"].tolist() == row[1:]
        assert rows["position"].tolist() == list(range(1, len(row)))
        np.testing.assert_allclose(rows["surprisal"], plain_surprisals(stories, row), atol=1e-4)
        total = rows["surprisal"].to_numpy().sum(dtype=np.float64)
        assert -total == pytest.approx(items["logprob"][item], abs=1e-4)
        for token, begin, end in zip(
            rows["token"], rows["char_begin"], rows["char_end"], strict=True
        ):
            assert text[begin:end].strip() == stories.tokenizer.decode([token]).strip()
    # Windows of 20 with a BOS in each hold 19 tokens of the text, and every one is scored.
    ids = stories.tokenizer(text, add_special_tokens=prefix == "tokenizer")["input_ids"]
    front = int(prefix == "bos")
    expected = [t for n in range(3) for t in ids[n * (20 - front) + 1 - front :][:19]]
    assert tokens["token"].tolist() == expected
    assert set(tokens["text"]) == {0}


@pytest.mark.parametrize("scored", ["sentences", "margins"])
def test_kept_tokens_of_pairs(stories, tmp_path, scored):
    rows = [
        ("The dogs run.", "The dogs runs.", "agreement", "verbs", 0),
        ("A b.", "A c.", "x", "y", 1),
    ]
    spec = write_pairs(tmp_path, rows).model_copy(update={"keep_tokens": True, "scores": scored})
    task = PREPARE["minimal_pairs"](stories.tokenizer, 512, spec, None)
    scores = baseline_scores(stories, task)
    tokens = task.tables(scores)["tokens"]
    assert tokens.groupby(["item", "text"]).ngroups == 4
    sums = tokens.groupby(["item", "text"])["surprisal"].sum().unstack("text")
    margin = task.items(scores).set_index("item")["margin"]
    np.testing.assert_allclose(sums[1] - sums[0], margin, atol=1e-4)
    for (item, side), part in tokens.groupby(["item", "text"]):
        row = stories.tokenizer(rows[item][side])["input_ids"]
        assert part["token"].tolist() == row[-len(part) :]
        assert (len(part) == len(row) - 1) == (scored == "sentences")
        begin, end = part["char_begin"].iloc[0], part["char_end"].iloc[-1]
        assert rows[item][side].endswith(rows[item][side][begin:end])


@pytest.mark.parametrize("prefix", ["tokenizer", "none"])
def test_margins_are_those_of_whole_sentences(stories, tmp_path, prefix):
    """Also where sentences differ from their first token on, and no special token goes before."""
    pairs = [
        ("The cats sleep", "A cat sleeps"),
        ("Once there was a girl", "There once was a girl"),
        ("She was happy", "She were happy"),
        ("He ran home", "He ran home today"),
    ]
    rows = [(*pair, "any", "any", number) for number, pair in enumerate(pairs)]
    margins = []
    for scored in ("sentences", "margins"):
        spec = write_pairs(tmp_path, rows).model_copy(update={"scores": scored, "prefix": prefix})
        task = PREPARE["minimal_pairs"](stories.tokenizer, 512, spec, None)
        margins.append(task.items(baseline_scores(stories, task))["margin"])
    np.testing.assert_allclose(margins[1], margins[0], atol=1e-4)


def test_nothing_is_kept_unless_asked_for(stories, corpus):
    task = PREPARE["perplexity"](stories.tokenizer, 64, PerplexitySpec(corpus="story"), corpus)
    assert task.tables(baseline_scores(stories, task)) == {}


def test_a_pair_of_one_token_can_be_scored_behind_a_bos_only(stories, tmp_path):
    spec = write_pairs(tmp_path, [("a", "the", "words", "g", 7)])
    bare = spec.model_copy(update={"prefix": "none"})
    with pytest.raises(UserError, match=r"pair words/7: a sentence of 1 tokens; allowed are 2 to"):
        PREPARE["minimal_pairs"](stories.tokenizer, 16, bare, None)
    behind = spec.model_copy(update={"prefix": "bos"})
    task = PREPARE["minimal_pairs"](stories.tokenizer, 16, behind, None)
    assert [len(row) for row in task.texts.rows] == [2, 2]


def test_specs_travel_as_plain_data(corpus):
    spec = PerplexitySpec(corpus="story", length=50)
    assert parse_task(json.loads(json.dumps(spec.model_dump()))) == spec
    assert parse_corpus(json.loads(json.dumps(corpus.model_dump()))) == corpus
    assert parse_corpus(None) is None


def test_items_have_the_columns_of_the_table(stories, corpus):
    from sweeper.store.schemas import ITEMS

    task = PREPARE["perplexity"](stories.tokenizer, 64, PerplexitySpec(corpus="story"), corpus)
    frame = task.items(baseline_scores(stories, task))
    assert isinstance(frame, pd.DataFrame)
    assert [*frame.columns] == [n for n in ITEMS.names if n not in ("cell_key", "attempt")]
