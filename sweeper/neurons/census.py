"""The census: statistics of every MLP neuron over the windows of a corpus.

Exact: the pre-activations of a group of layers are kept while the text passes, as many layers at
a time as the memory limit allows; the text passes once for each group.

Shapes: ``N`` tokens, ``F`` neurons of a layer, ``K`` neurons of a chunk.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.statistics import neuron_statistics
from sweeper.score.logprobs import within_memory
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

CHUNK_VALUES = 2**18
"""Values handled at once when statistics are computed: 2 MiB in float64, so that a chunk and its
like stay in the processor's cache (2**22 took twice as long)."""


def census(
    model: LoadedModel, rows: Sequence[Row], budget: TokenBudget, memory_gb: float
) -> pd.DataFrame:
    """Statistics of every neuron over all tokens of the rows.

    Args:
        model: the loaded model, without clamps.
        rows: token windows, each within the model's context.
        budget: most positions in one forward pass.
        memory_gb: most memory for kept activations, in 1e9 bytes.

    Returns:
        One row per neuron: layer, neuron, mean, sd, skew, kurtosis, share_negative, wd,
        num_tokens.

    Raises:
        MemoryError: one layer's activations exceed ``memory_gb``.
        FloatingPointError: an activation is NaN or infinite.
    """
    num_tokens = sum(len(row) for row in rows)
    tables: list[pd.DataFrame] = []
    for sites in _layer_groups(model.sites, num_tokens, memory_gb):
        kept = _collect(model, sites, rows, budget, num_tokens)
        tables.extend(_layer_table(site.layer, kept.pop(site.layer)) for site in sites)
    return pd.concat(tables, ignore_index=True)


def _layer_groups(
    sites: Sequence[MlpSite], num_tokens: int, memory_gb: float
) -> Iterator[Sequence[MlpSite]]:
    layer_bytes = num_tokens * sites[0].size * 4
    size = int(memory_gb * 1e9 // layer_bytes)
    if size < 1:
        raise MemoryError(
            f"census.memory_gb = {memory_gb:g}: one layer's activations over {num_tokens} tokens "
            f"take {layer_bytes / 1e9:.2g} GB; allow more or read fewer windows"
        )
    for start in range(0, len(sites), size):
        yield sites[start : start + size]


def _next_batch(rows: Sequence[Row], budget: TokenBudget) -> list[Row]:
    """The first rows that are of one length and fit into the budget; at least one."""
    length = len(rows[0])
    most = max(budget.positions // length, 1)
    return list(takewhile(lambda row: len(row) == length, rows[:most]))


@torch.inference_mode()
def _collect(
    model: LoadedModel,
    sites: Sequence[MlpSite],
    rows: Sequence[Row],
    budget: TokenBudget,
    num_tokens: int,
) -> dict[int, Tensor]:
    """Pre-activations of the sites, layer -> float32 tensor of shape [N, F]."""
    kept: dict[int, Tensor] = {}
    with _recording(sites, kept, num_tokens) as begin_at:
        done = 0
        while done < len(rows):
            batch = _next_batch(rows[done:], budget)
            tokens_BT = torch.tensor(batch, device=model.input_device)
            num_rows, length = tokens_BT.shape
            forward = partial(model.hidden_states, tokens_BT)
            # After a failure the same slice is written again.
            if within_memory(forward, num_rows, length, budget) is not None:
                begin_at[0] += tokens_BT.numel()
                done += len(batch)
    return kept


@contextmanager
def _recording(
    sites: Sequence[MlpSite], kept: dict[int, Tensor], num_tokens: int
) -> Iterator[list[int]]:
    """Copy what the sites put out into ``kept``, from the position held in the yielded list."""
    begin_at = [0]

    def hook_for(site: MlpSite) -> Any:
        def record(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            values_NF = output[..., site.start : site.start + site.size].flatten(0, -2)
            if site.layer not in kept:
                kept[site.layer] = torch.empty(
                    (num_tokens, site.size), dtype=torch.float32, device=output.device
                )
            kept[site.layer][begin_at[0] : begin_at[0] + len(values_NF)] = values_NF

        return record

    handles = []
    try:
        for site in sites:
            handles.append(site.pre_activation.register_forward_hook(hook_for(site)))
        yield begin_at
    finally:
        for handle in handles:
            handle.remove()


def _layer_table(layer: int, values_NF: Tensor) -> pd.DataFrame:
    num_tokens, num_neurons = values_NF.shape
    if not bool(torch.isfinite(values_NF).all()):
        raise FloatingPointError(f"layer {layer}: a pre-activation is NaN or infinite")
    chunk = max(CHUNK_VALUES // num_tokens, 1)
    parts = [
        {name: column.cpu().numpy() for name, column in neuron_statistics(part.T).items()}
        for part in torch.split(values_NF, chunk, dim=1)
    ]
    table = pd.DataFrame({name: np.concatenate([p[name] for p in parts]) for name in parts[0]})
    table.insert(0, "layer", np.int32(layer))
    table.insert(1, "neuron", np.arange(num_neurons, dtype=np.int32))
    table["num_tokens"] = np.int64(num_tokens)
    return table
