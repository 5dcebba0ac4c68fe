"""Does the engine say what plain Hugging Face says, and how large is rounding?"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.clamp.hooks import clamped
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition
from sweeper.score.engine import score_texts
from sweeper.score.logprobs import token_logprobs
from sweeper.score.memory import TokenBudget
from sweeper.score.texts import Scores, Texts
from sweeper.score.tokens import Row

BOUND = {"float32": 1e-4, "bfloat16": 0.2, "float16": 0.03}
"""Largest accepted difference of a row's log-probability from plain Hugging Face, in nats per
scored token. Half precision rounds by what other rows stand beside a row; an engine that computes
something else is off by whole nats."""

COMPARED = 4
"""Texts with the same beginning that are compared with one another, at most."""

_log = logging.getLogger("sweeper")

_BASELINE = Condition(name="fidelity check", seed=None, operation=None)


class FidelityError(RuntimeError):
    """The engine and plain Hugging Face disagree on the loaded model."""


@torch.inference_mode()
def plain_logprob(model: LoadedModel, row: Row) -> float:
    """Sum of a row's token log-probabilities (nats) by the model's own full logits."""
    tokens = torch.tensor([row], device=model.input_device)
    logits_TV = model.model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
    targets = tokens[0, 1:, None].to(logits_TV.device)
    return float(logits_TV.log_softmax(-1).gather(-1, targets).sum(dtype=torch.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """What was found out about a loaded model."""

    worst: float
    """Largest difference from plain Hugging Face, in nats per scored token of a text."""
    share: bool
    """Whether the model takes tree attention rightly; if not, texts are scored as padded rows."""


def check_fidelity(model: LoadedModel) -> Fidelity:
    """Compare the engine with plain Hugging Face on texts of random tokens with common prefixes.

    Both the baseline and a clamp are compared, forked as in a sweep.

    A model that gives other numbers with the prefix tree, and the right ones without it, does not
    take a mask of ours: the caller is told to do without, and the log says so.

    Raises:
        FidelityError: the difference exceeds ``BOUND``.
    """
    texts = _random_texts(model)
    expected = _plain(model, texts)
    bound = BOUND[model.checkpoint.dtype]
    worst = _worst(model, texts, expected, share=True)
    if worst <= bound:
        return Fidelity(worst=worst, share=True)
    alone = _worst(model, texts, expected, share=False)
    if not alone <= bound:
        raise FidelityError(f"{alone:.3g} nats a token from plain Hugging Face; bound {bound}")
    _log.warning(
        "model %s: tree attention is %.3g nats a token off; going on with padded rows",
        model.checkpoint.model,
        worst,
    )
    return Fidelity(worst=alone, share=False)


def _random_texts(model: LoadedModel) -> Texts:
    """Texts of several lengths; the last two go on like the one before."""
    vocabulary = model.model.config.get_text_config().vocab_size
    rng = np.random.default_rng(0)
    lengths = [min(length, model.checkpoint.context) for length in (5, 17, 17, 24)]
    rows = [rng.integers(vocabulary, size=length).tolist() for length in lengths]
    for shared in (3, 12):
        tail = rng.integers(vocabulary, size=4).tolist()
        rows.append([*rows[-1][:shared], *tail][: model.checkpoint.context])
    return Texts(rows=rows)


def _conditions(model: LoadedModel) -> list[Condition]:
    """The baseline, and neurons of the second half of the layers switched off."""
    neurons = {site.layer: (0, site.size - 1) for site in model.sites[len(model.sites) // 2 :]}
    zero = Condition(name="fidelity check", seed=None, operation="zero", neurons=neurons)
    return [_BASELINE, zero]


def _plain(model: LoadedModel, texts: Texts) -> list[list[float]]:
    """By plain Hugging Face, one condition and one text at a time."""
    found = []
    for condition in _conditions(model):
        with clamped(model, condition):
            found.append([plain_logprob(model, row) for row in texts.rows])
    return found


def _worst(
    model: LoadedModel, texts: Texts, expected: Sequence[Sequence[float]], *, share: bool
) -> float:
    """Largest difference (nats per scored token) under a baseline and a clamp, forked."""
    scored = score_texts(model, texts, _conditions(model), TokenBudget(64), share=share)
    differences = [
        abs(known - float(values.sum(dtype=np.float64))) / len(values)
        for of_texts, scores in zip(expected, scored, strict=True)
        for known, values in zip(of_texts, scores.logprobs, strict=True)
    ]
    return float(np.max(differences))  # NaN if any is


def noise_floor(
    model: LoadedModel, texts: Texts, scores: Scores, budget: TokenBudget, sample: int = 32
) -> float:
    """Largest change of a text's log-probability (nats) under another packing.

    Scores an evenly spaced sample of the texts a second time, without prefix tree and mask, each
    in the company of two copies of itself, which is no packing that it was in before. Relative
    log-probabilities are compared with those of the texts that have the same beginning.
    """
    found = [0.0]
    for group in _comparable(texts)[:: max(len(texts.rows) // sample, 1)]:
        few = group[:COMPARED]
        changes = np.concatenate([_changes(model, texts, i, scores, budget) for i in few])
        compared = texts.is_relative(few[0])
        found.append(float(np.ptp(changes) if compared else np.abs(changes).max()))
    return float(np.max(found))


def _comparable(texts: Texts) -> list[list[int]]:
    """Texts whose log-probabilities mean something beside one another."""
    groups: dict[object, list[int]] = {}
    for index, row in enumerate(texts.rows):
        beginning = tuple(row[: texts.start(index)]) if texts.is_relative(index) else index
        groups.setdefault(beginning, []).append(index)
    return list(groups.values())


def _changes(
    model: LoadedModel, texts: Texts, index: int, scores: Scores, budget: TokenBudget
) -> NDArray[np.float64]:
    """Differences of a text's log-probability to the one known, in three neighbouring rows."""
    row = texts.rows[index]
    company = TokenBudget(min(budget.positions, 3 * (len(row) - 1)))
    again = token_logprobs(model, [row] * 3, company)
    known, skipped = scores.logprobs[index], texts.start(index) - 1
    sums = [(known - values[skipped:]).sum(dtype=np.float64) for values in again]
    return np.array(sums, np.float64)
