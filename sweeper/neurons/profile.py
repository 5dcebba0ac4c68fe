"""Profiles of single neurons: what they make of similar inputs, and which tokens they separate.

One pass over windows of text. Of a sample of tokens what enters the layer is kept (D numbers each)
with the neurons' pre-activations. Two kinds of pairs are made of it:

- random ones, drawn as for the mapping difficulty (``neurons.mapping``): disjoint, both tokens from
  one window; all tokens of these pairs are the sample;
- similar ones: for the first token of each random pair the one of the whole sample whose input is
  nearest among those of other vocabulary ids, where they are nearer to each other than nine tenths
  of the random pairs. Two tokens that are each other's nearest are one pair.

Without regard to the ids, 45 to 68 % of such pairs are the same word twice (5 layers of
SmolLM2-135M, 2,000 tokens of WikiText-2), and in the first layer of models like Pythia, whose MLPs
read what attention reads, it has the very same input.

Of all other tokens only sums by vocabulary id are kept.

Shapes: ``N`` tokens of a batch, ``S`` of the sample, ``P`` random pairs, ``Q`` similar pairs, ``D``
model width, ``F`` neurons of a layer, ``K`` profiled ones, ``V`` different vocabulary ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.mapping import Pairs, distances, draw_pairs
from sweeper.neurons.passes import Batch, read, watching
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

SIMILAR = 0.1
"""Similar inputs are nearer to each other than all but this share of random pairs."""

MIN_COUNT = 5
"""Least occurrences of a vocabulary id whose mean is kept."""

NUM_ENDS = 20
"""Vocabulary ids kept at each end of a neuron's range."""

CONTEXT = 8
"""Tokens of the text that stands for a token: itself, last, and those before it."""

CHUNK_DISTANCES = 2**22
"""Distances computed at once."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """Rows of the tables ``neuron_pairs`` and ``neuron_tokens``, without the cell."""

    pairs: pd.DataFrame
    tokens: pd.DataFrame
    num_tokens: int


def profile(
    model: LoadedModel,
    rows: Sequence[Row],
    neurons: Mapping[int, Sequence[int]],
    budget: TokenBudget,
    num_pairs: int,
    fingerprint: str,
) -> Profiles:
    """Pass windows of text through the model and look at some neurons.

    Args:
        model: the loaded model, without clamps.
        rows: token windows, each within the model's context.
        neurons: layer -> the neurons to look at.
        budget: most positions in one forward pass.
        num_pairs: random pairs; as many as the windows have where that is fewer.
        fingerprint: of the text; the pairs are drawn by it.

    Raises:
        ValueError: there are no windows.
        FloatingPointError: an input or a pre-activation is NaN or infinite.
    """
    if not rows:
        raise ValueError("the text of the profiles has no window of at least 2 tokens")
    sample = _Sample(rows, draw_pairs(num_pairs, list(map(len, rows)), fingerprint))
    gathering = _Gathering(sample, neurons)
    with watching([model.sites[layer] for layer in sorted(neurons)], gathering.look):
        read(model, rows, range(len(rows)), budget, gathering.begin)
    texts = sample.texts(model.tokenizer)
    words = [
        token_text(model.tokenizer, token) for token in sample.vocabulary[sample.often].tolist()
    ]
    pairs, tokens = [], []
    for layer, members in sorted(neurons.items()):
        kept = gathering.layers[layer]
        pairs.append(_pair_rows(layer, members, kept, sample, texts, model.input_device))
        tokens.append(_token_rows(layer, members, kept, sample, words))
    return Profiles(
        pairs=pd.concat(pairs, ignore_index=True),
        tokens=pd.concat(tokens, ignore_index=True),
        num_tokens=sum(map(len, rows)),
    )


def token_text(tokenizer: Any, token: int) -> str:
    """A vocabulary id as it stands in a text, with the space before it that it may hold."""
    text: str = tokenizer.decode([token])
    # SentencePiece writes a leading space as this mark, and leaves it out at the start of a text.
    begins_a_word = str(tokenizer.convert_ids_to_tokens(token)).startswith("▁")
    return f" {text}" if begins_a_word and not text.startswith(" ") else text


class _Sample:
    """Which tokens are kept, and what is known of them before the model is asked."""

    def __init__(self, rows: Sequence[Row], pairs: Sequence[Pairs]) -> None:
        self._rows = rows
        self._positions = [own.ravel() for own in pairs]
        self._first_slot = list(accumulate(map(len, self._positions), initial=0))
        self._first_token = list(accumulate(map(len, rows), initial=0))
        every = np.concatenate([np.asarray(row, np.int64) for row in rows])
        self.vocabulary, places, self.counts = np.unique(
            every, return_inverse=True, return_counts=True
        )
        self._places = places.reshape(-1)
        self.often = np.flatnonzero(self.counts >= MIN_COUNT)
        self.size = self._first_slot[-1]
        """S. The two tokens of a random pair follow one another."""

    def tokens(self) -> NDArray[np.int64]:
        """Vocabulary ids of the sample."""
        kept = [
            np.asarray(row, np.int64)[own]
            for row, own in zip(self._rows, self._positions, strict=True)
        ]
        return np.concatenate(kept)

    def texts(self, tokenizer: Any) -> list[str]:
        """Each token of the sample after a few others of its window."""
        return [
            tokenizer.decode(row[max(position + 1 - CONTEXT, 0) : position + 1])
            for row, own in zip(self._rows, self._positions, strict=True)
            for position in own.tolist()
        ]

    def slots(self, windows: range) -> slice:
        """Where the tokens of some windows stand in the sample."""
        return slice(self._first_slot[windows.start], self._first_slot[windows.stop])

    def in_batch(self, windows: range, batch: Batch) -> Tensor:
        """Positions of those tokens in a batch."""
        moved = [self._positions[w] + (w - batch.first) * batch.length for w in windows]
        return torch.from_numpy(np.concatenate(moved))

    def ids(self, windows: range) -> Tensor:
        """All tokens of some windows as indices of ``vocabulary``."""
        chosen = slice(self._first_token[windows.start], self._first_token[windows.stop])
        return torch.from_numpy(self._places[chosen])


@dataclass(slots=True)
class _Kept:
    """What is kept of a layer."""

    neurons: Tensor
    inputs: Tensor
    """(S, D), on CPU in the model's own format."""
    values: Tensor
    """Float64, (S, K), on CPU."""
    sums: Tensor
    """Of the pre-activations by vocabulary id: float64, (V, K)."""
    squares: Tensor
    window: int = 0
    """The first that is not taken in."""


class _Gathering:
    def __init__(self, sample: _Sample, neurons: Mapping[int, Sequence[int]]) -> None:
        self._sample, self._neurons = sample, neurons
        self.layers: dict[int, _Kept] = {}
        self._batch = Batch(0, 0, 0)

    def begin(self, batch: Batch) -> None:
        self._batch = batch

    def look(self, site: MlpSite, inputs_ND: Tensor, values_NF: Tensor) -> None:
        """Take in the batch's windows that are new: after memory ran out some are not."""
        if site.layer not in self.layers:
            self.layers[site.layer] = self._empty(site.layer, inputs_ND)
        kept, batch = self.layers[site.layer], self._batch
        windows = range(max(kept.window, batch.first), batch.end)
        if not windows:
            return
        # All memory is taken before anything is added: where it runs out, the sums are whole.
        here = self._sample.in_batch(windows, batch).to(inputs_ND.device)
        inputs_SD = inputs_ND[here].cpu()
        values_NK = values_NF[:, kept.neurons].double()
        known = (windows.start - batch.first) * batch.length
        new_NK, ids = values_NK[known:], self._sample.ids(windows).to(values_NF.device)
        squares_NK = new_NK.square()
        values_SK = values_NK[here].cpu()
        if not bool(torch.isfinite(squares_NK).all() and torch.isfinite(inputs_SD).all()):
            raise FloatingPointError(f"layer {site.layer}: an activation is NaN or infinite")
        slots = self._sample.slots(windows)
        kept.inputs[slots], kept.values[slots] = inputs_SD, values_SK
        kept.sums.index_add_(0, ids, new_NK)
        kept.squares.index_add_(0, ids, squares_NK)
        kept.window = batch.end

    def _empty(self, layer: int, inputs_ND: Tensor) -> _Kept:
        neurons = torch.tensor(list(self._neurons[layer]), device=inputs_ND.device)
        size, num_ids = self._sample.size, len(self._sample.vocabulary)
        sums = torch.zeros((num_ids, len(neurons)), dtype=torch.float64, device=inputs_ND.device)
        return _Kept(
            neurons=neurons,
            inputs=torch.empty((size, inputs_ND.shape[1]), dtype=inputs_ND.dtype),
            values=torch.empty((size, len(neurons)), dtype=torch.float64),
            sums=sums,
            squares=sums.clone(),
        )


def similar_pairs(inputs_SD: Tensor, dx_P: Tensor, tokens_S: Tensor) -> Tensor:
    """Pairs of similar inputs in a sample, as the module's rule says: (Q, 2).

    Args:
        inputs_SD: inputs, the two of a random pair next to each other.
        dx_P: distances of the random pairs.
        tokens_S: vocabulary ids.
    """
    x_SD = inputs_SD.double()
    length_S = x_SD.square().sum(-1)
    firsts = torch.arange(0, len(x_SD), 2, device=x_SD.device)
    found = []
    for first_C in torch.split(firsts, max(CHUNK_DISTANCES // len(x_SD), 1)):
        squared_CS = length_S[first_C, None] + length_S - 2 * x_SD[first_C] @ x_SD.T
        same_CS = tokens_S[first_C, None] == tokens_S
        found.append(squared_CS.masked_fill_(same_CS, torch.inf).min(-1))
    near = torch.cat([nearest.indices for nearest in found])
    some = torch.cat([nearest.values for nearest in found]).isfinite()
    found_Q2 = torch.stack([firsts, near], 1)[some].sort(-1).values
    pairs_Q2: Tensor = torch.unique(found_Q2, dim=0)
    close = distances(inputs_SD, pairs_Q2) <= torch.quantile(dx_P, SIMILAR)
    return pairs_Q2[close]


def _pair_rows(
    layer: int,
    members: Sequence[int],
    kept: _Kept,
    sample: _Sample,
    texts: Sequence[str],
    device: torch.device,
) -> pd.DataFrame:
    inputs_SD = kept.inputs.to(device)
    random_P2 = torch.arange(sample.size, device=device).view(-1, 2)
    dx_P = distances(inputs_SD, random_P2)
    ids = sample.tokens()
    similar_Q2 = similar_pairs(inputs_SD, dx_P, torch.from_numpy(ids).to(device))
    both = torch.cat([random_P2, similar_Q2]).cpu().numpy()
    dx = torch.cat([dx_P, distances(inputs_SD, similar_Q2)]).cpu().numpy()
    tokens, words = ids[both], np.array(texts, dtype=object)[both]
    shared = {
        "pair": np.arange(len(both)),
        "token_i": tokens[:, 0],
        "token_j": tokens[:, 1],
        "text_i": words[:, 0],
        "text_j": words[:, 1],
        "dx": dx,
        "similar": np.arange(len(both)) >= len(random_P2),
    }
    frames = []
    for neuron, values in zip(members, kept.values.numpy().T, strict=True):
        outputs = {"y_i": values[both[:, 0]], "y_j": values[both[:, 1]]}
        frames.append(pd.DataFrame({"layer": layer, "neuron": neuron, **shared, **outputs}))
    return pd.concat(frames, ignore_index=True)


def _token_rows(
    layer: int, members: Sequence[int], kept: _Kept, sample: _Sample, words: Sequence[str]
) -> pd.DataFrame:
    often = sample.often
    count = sample.counts[often]
    means_VK = kept.sums.cpu().numpy()[often] / count[:, None]
    spread_VK = kept.squares.cpu().numpy()[often] / count[:, None] - means_VK**2
    shared = pd.DataFrame({"token": sample.vocabulary[often], "text": words, "count": count})
    frames = []
    for neuron, means, spread in zip(members, means_VK.T, spread_VK.T, strict=True):
        order = np.argsort(means, kind="stable")
        ends = np.concatenate([order[:NUM_ENDS], order[NUM_ENDS:][-NUM_ENDS:]])
        numbers = {"mean": means, "sd": np.sqrt(spread.clip(0))}
        own = shared.assign(layer=layer, neuron=neuron, **numbers)
        frames.append(own.iloc[ends])
    return pd.concat(frames, ignore_index=True)
