"""What a neuron writes: its output weights read through the output embedding.

Voita, Ferrando and Nalmpantis (2024), section 4.3: the tokens that a neuron promotes and suppresses
most, and whether a token detector suppresses the tokens that it detects.

In gated MLPs a factor of either sign multiplies the activation before it meets the output weights
(the study's models have none). So logits are those of an activation of 1 with the mean factor: on
a covered token that of the activations there, else that of all activations on covered tokens.

Shapes: ``K`` neurons, ``D`` hidden size, ``V`` vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.models.layer_major import resident
from sweeper.models.loading import LoadedModel

AT_ONCE = 256
"""Neurons that are projected together: a row of the vocabulary for each is in memory."""

NO_NEURONS = pd.DataFrame(
    {"neuron": np.empty(0, np.int64), "projection": np.empty(0), "suppresses": np.empty(0, bool)}
)
NO_CHANGES = pd.DataFrame(
    {
        "neuron": np.empty(0, np.int64),
        "direction": np.empty(0, object),
        "rank": np.empty(0, np.int64),
        "token": np.empty(0, np.int64),
        "logit": np.empty(0),
    }
)


@torch.inference_mode()
def projections(model: LoadedModel, layer: int, neurons: Sequence[int]) -> Tensor:
    """Change of every token's logit per unit that meets the output weights: float32, (K, V).

    Before norms; in gated MLPs the unit is that of the activation times its factor.

    Args:
        model: the loaded model.
        layer: of the neurons; its weights may be away from the device.
        neurons: their numbers.
    """
    site, head = model.sites[layer], model.head.get_parameter("weight")
    with resident(model.layers[layer]):
        written_KD = site.output_rows(torch.tensor(neurons, dtype=torch.long))
    between = getattr(model.decoder, "project_out", None)
    if between is not None:
        written_KD = between(written_KD.to(between.weight.dtype))
    logits_KV: Tensor = written_KD.to(head.device).float() @ head.float().T
    return logits_KV


def most_changed(logits_KV: Tensor, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens that each neuron promotes and suppresses most, strongest first; shapes (K, number)."""
    promoted = logits_KV.topk(number).indices.cpu().numpy()
    suppressed = logits_KV.topk(number, largest=False).indices.cpu().numpy()
    return promoted, suppressed


def suppression(logits_KV: Tensor, neurons: Sequence[int], covered: pd.DataFrame) -> pd.DataFrame:
    """Whether detectors suppress what they detect.

    Args:
        logits_KV: projections of the neurons.
        neurons: their numbers, sorted.
        covered: neuron and ngram (here: a token) that each of them covers; of gated MLPs also count
            and factors (``ngrams.NgramCounts``).

    Returns:
        One row per neuron: ``neuron``, ``projection`` (mean over its covered tokens), and
        ``suppresses`` (whether that is negative).
    """
    values = pd.Series(_at(logits_KV, neurons, covered))
    means = values.groupby(covered["neuron"].to_numpy()).mean()
    found = means.reindex(list(neurons))
    return pd.DataFrame(
        {
            "neuron": np.array(neurons, np.int64),
            "projection": found.to_numpy(),
            "suppresses": (found < 0).to_numpy(),
        }
    )


@dataclass(frozen=True, slots=True)
class Projected:
    """What the token detectors of a layer write."""

    neurons: pd.DataFrame
    """As ``suppression`` has it."""
    of_covered: NDArray[np.float64]
    """The projection on each token that a detector covers, in their order."""
    factors: NDArray[np.float64] | None
    """Mean factor of the activations on each of them; None without gates."""
    changed: pd.DataFrame
    """neuron, direction (``promoted``, ``suppressed``), rank (from 0), token, logit."""


def projected(model: LoadedModel, layer: int, covered: pd.DataFrame, number: int) -> Projected:
    """What token detectors write, some of them at a time.

    Args:
        model: the loaded model.
        layer: of the neurons.
        covered: neuron and ngram (a token), sorted by neuron; of gated MLPs also count and factors.
        number: tokens that each promotes and suppresses most, so many of both.
    """
    members = covered["neuron"].unique().tolist()
    tables: list[pd.DataFrame] = []
    values: list[NDArray[np.float64]] = []
    changed: list[pd.DataFrame] = []
    for first in range(0, len(members), AT_ONCE):
        some = members[first : first + AT_ONCE]
        logits_KV = projections(model, layer, some)
        theirs = covered[covered["neuron"].isin(some)]
        tables.append(suppression(logits_KV, some, theirs))
        values.append(_at(logits_KV, some, theirs))
        logits_KV = _times_factors(logits_KV, theirs)
        changed.append(_changed(logits_KV, some, min(number, logits_KV.shape[1])))
    return Projected(
        neurons=pd.concat(tables, ignore_index=True) if tables else NO_NEURONS,
        of_covered=np.concatenate([np.empty(0), *values]),
        factors=_factors(covered),
        changed=pd.concat(changed, ignore_index=True) if changed else NO_CHANGES,
    )


def _at(logits_KV: Tensor, neurons: Sequence[int], covered: pd.DataFrame) -> NDArray[np.float64]:
    rows = np.searchsorted(neurons, covered["neuron"].to_numpy())
    found: NDArray[np.float64] = logits_KV.cpu().numpy()[rows, covered["ngram"]].astype(np.float64)
    factors = _factors(covered)
    return found if factors is None else found * factors


def _factors(covered: pd.DataFrame) -> NDArray[np.float64] | None:
    """Mean factor of the activations on each covered token; None without gates."""
    if "factors" not in covered:
        return None
    return (covered["factors"] / covered["count"]).to_numpy(np.float64)


def _times_factors(logits_KV: Tensor, covered: pd.DataFrame) -> Tensor:
    """With the mean factor of each neuron over all of its covered tokens."""
    if "factors" not in covered:
        return logits_KV
    sums = covered.groupby("neuron")[["factors", "count"]].sum()
    means_K = torch.from_numpy((sums["factors"] / sums["count"]).to_numpy(np.float32))
    return logits_KV * means_K[:, None].to(logits_KV.device)


def _changed(logits_KV: Tensor, neurons: Sequence[int], number: int) -> pd.DataFrame:
    ends = zip(("promoted", "suppressed"), most_changed(logits_KV, number), strict=True)
    values_KV, rows_K1 = logits_KV.cpu().numpy(), np.arange(len(neurons))[:, None]
    return pd.concat(
        pd.DataFrame(
            {
                "neuron": np.repeat(neurons, number),
                "direction": direction,
                "rank": np.tile(np.arange(number), len(neurons)),
                "token": tokens.ravel(),
                "logit": values_KV[rows_K1, tokens].ravel().astype(np.float64),
            }
        )
        for direction, tokens in ends
    )
