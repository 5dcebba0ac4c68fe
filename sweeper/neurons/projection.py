"""What a neuron writes: its output weights read through the output embedding.

Voita, Ferrando and Nalmpantis (2024), section 4.3: the tokens that a neuron promotes and suppresses
most, and whether a token detector suppresses the tokens that it detects.

Shapes: ``K`` neurons, ``D`` hidden size, ``V`` vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.models.loading import LoadedModel


@torch.inference_mode()
def projections(model: LoadedModel, layer: int, neurons: Sequence[int]) -> Tensor:
    """Change of every token's logit per unit of activation, before norms: float32, (K, V).

    Args:
        model: the loaded model.
        layer: of the neurons.
        neurons: their numbers.

    """
    site, head = model.sites[layer], model.head.get_parameter("weight")
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
        neurons: their numbers.
        covered: neuron and ngram (here: a token) that each of them covers.

    Returns:
        One row per neuron: ``neuron``, ``projection`` (mean over its covered tokens), and
        ``suppresses`` (whether that is negative).
    """
    place = {neuron: index for index, neuron in enumerate(neurons)}
    rows = covered["neuron"].map(place).to_numpy(np.int64)
    values = logits_KV.cpu().numpy()[rows, covered["ngram"].to_numpy(np.int64)]
    means = pd.Series(values.astype(np.float64)).groupby(covered["neuron"].to_numpy()).mean()
    found = means.reindex(list(neurons))
    return pd.DataFrame(
        {
            "neuron": np.array(neurons, np.int64),
            "projection": found.to_numpy(),
            "suppresses": (found < 0).to_numpy(),
        }
    )
