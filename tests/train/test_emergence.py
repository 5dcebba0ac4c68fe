"""The shipped training in full: grammar is at chance before it and learned after it."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_training import run
from transformers import AutoModelForCausalLM, AutoTokenizer

from sweeper.score.grammar import generate
from sweeper.spec import load_training

JOB = Path(__file__).resolve().parents[2] / "jobs" / "train_tiny_pythia.yaml"
PAIRS = 40
"""First pairs of each paradigm; an even number is balanced."""


def accuracies(folder: Path) -> pd.Series:
    """Share of pairs whose good sentence is the more probable one, by plain Hugging Face."""
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    pairs = generate().groupby("UID", sort=False).head(PAIRS).reset_index(drop=True)
    sums = [
        torch.cat([log_probabilities(model, tokenizer, part) for part in batches(pairs[column])])
        for column in ("sentence_good", "sentence_bad")
    ]
    right = pd.Series((sums[0] > sums[1]).numpy())
    return right.groupby(pairs["linguistics_term"]).mean()


def batches(sentences: pd.Series) -> list[list[str]]:
    return [list(sentences[start : start + 200]) for start in range(0, len(sentences), 200)]


@torch.no_grad()
def log_probabilities(model, tokenizer, sentences: list[str]) -> torch.Tensor:
    rows = [torch.tensor(row) for row in tokenizer(sentences)["input_ids"]]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0)
    given = model(padded[:, :-1]).logits.log_softmax(-1)
    found = given.gather(-1, padded[:, 1:, None])[..., 0]
    return (found * (padded[:, 1:] != 0)).double().sum(1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_grammar_emerges(tmp_path):
    folder, _ = run(load_training(JOB, [f"output={tmp_path / 'model'}"]))
    first, last = accuracies(folder / "step0"), accuracies(folder / "step1500")
    print(pd.DataFrame({"step0": first, "last": last}))
    assert first.between(0.3, 0.7).all()
    assert last["subject_verb_agreement"] - first["subject_verb_agreement"] > 0.2
    assert (last > 0.8).sum() >= 4
    assert last.mean() > first.mean() + 0.25
