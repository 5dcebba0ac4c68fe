"""A small OPT whose neurons fire by rules put together by hand, for the firing census.

Two layers, ReLU, 40 MLP neurons in each, 80 tokens, windows of 64. What it is made of:

**Residual stream.** A token is one-hot on 80 dimensions, with -1 on one more; the token before
stands in the same way on 81 others. A position p is the cos and sin of 2 pi p / 64, of 8 pi p / 64
and of pi p / 128, each with its opposite beside it. So every state sums to 0 and has the same norm,
and LayerNorm is a known constant.

**Attention.** One head of the first layer copies the token before: its scores are
4000 cos(2 pi (p - 1 - q) / 64) for query p and key q, which leaves less than exp(-19) to other
keys. The second layer's values are 0.

**Neurons.** Dead ones have the pre-activation -1. Token detectors have x_t - 1/2 summed over their
tokens. Bigram detectors have (x of the token before) + (x of the token) - 3/2. Positional ones read
the waves: a quarter of the window in turn, a step, and a step that a token may keep from firing.
The others are random and read tokens and positions. Detectors write along (or against) what they
detect; what all neurons write is small, so that the second layer sees nearly what the first does.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from planted.empty_opt import empty_opt
from torch import Tensor
from transformers import OPTForCausalLM

TOKENS, LENGTH, NEURONS, LAYERS = 80, 64, 40, 2
FIRST_TOKEN = 4
"""Tokens below stand for nothing: the tokenizer's special ones."""
SMALL = 1e-3
WAVES = (2 * math.pi / LENGTH, 8 * math.pi / LENGTH, math.pi / (2 * LENGTH))
NOW, BEFORE, POSITION = slice(0, 81), slice(81, 162), slice(162, 162 + 4 * len(WAVES))
WIDTH = 176
SHARPNESS = 4000.0


@dataclass
class Truth:
    """Which neurons do what; layer -> neuron -> what."""

    dead: dict[int, set[int]] = field(default_factory=dict)
    detectors: dict[int, dict[int, set[int]]] = field(default_factory=dict)
    """Tokens of each."""
    suppressing: dict[int, set[int]] = field(default_factory=dict)
    bigrams: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)
    positional: dict[int, dict[int, tuple[str, bool]]] = field(default_factory=dict)
    """Type, and whether it is strong."""


def build_firing_model(folder: Path, seed: int = 0) -> Truth:
    """Put the model together and save it in Hugging Face format (without a tokenizer)."""
    rng = np.random.default_rng(seed)
    model = empty_opt(tokens=TOKENS, width=WIDTH, layers=LAYERS, neurons=NEURONS, length=LENGTH)
    truth = Truth()
    with torch.no_grad():
        _fill_embeddings(model)
        _fill_attention(model)
        for layer in range(LAYERS):
            _fill_neurons(model, layer, truth, rng)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    return truth


def texts(num: int, seed: int) -> list[list[int]]:
    """Windows of random tokens."""
    rng = np.random.default_rng(seed)
    windows: list[list[int]] = rng.integers(FIRST_TOKEN, TOKENS, size=(num, LENGTH)).tolist()
    return windows


def _fill_embeddings(model: OPTForCausalLM) -> None:
    decoder = model.model.decoder
    tokens = decoder.embed_tokens.weight
    tokens[:, :TOKENS] = torch.eye(TOKENS)
    tokens[:, TOKENS] = -1.0
    positions = decoder.embed_positions.weight[decoder.embed_positions.offset :]
    positions[:, POSITION] = _waves(torch.arange(LENGTH, dtype=torch.float64)).float()


def _waves(positions: Tensor) -> Tensor:
    """Cos, -cos, sin, -sin of each wave at each position."""
    parts = []
    for frequency in WAVES:
        cos, sin = torch.cos(frequency * positions), torch.sin(frequency * positions)
        parts += [cos, -cos, sin, -sin]
    return torch.stack(parts, dim=-1)


def _scale(with_before: bool) -> float:
    """What LayerNorm divides by: the root of the mean square of a state."""
    squares = 2 + 2 * len(WAVES) + 2 * with_before
    return math.sqrt(squares / WIDTH)


def _fill_attention(model: OPTForCausalLM) -> None:
    attention = model.model.decoder.layers[0].self_attn
    scale = _scale(with_before=False)
    turn = WAVES[0]
    # Queries are keys of one position before, turned back by one step.
    size = math.sqrt(SHARPNESS) * WIDTH**0.25 * scale
    cos, sin = POSITION.start, POSITION.start + 2
    attention.k_proj.weight[0, cos] = attention.k_proj.weight[1, sin] = size
    attention.q_proj.weight[0, cos] = attention.q_proj.weight[1, sin] = size * math.cos(turn)
    attention.q_proj.weight[0, sin] = size * math.sin(turn)
    attention.q_proj.weight[1, cos] = -size * math.sin(turn)
    attention.v_proj.weight[NOW, NOW] = torch.eye(81) * scale
    attention.out_proj.weight[BEFORE, NOW] = torch.eye(81)


def _fill_neurons(
    model: OPTForCausalLM, layer: int, truth: Truth, rng: np.random.Generator
) -> None:
    block = model.model.decoder.layers[layer]
    weight, bias, output = block.fc1.weight, block.fc1.bias, block.fc2.weight
    scale = _scale(with_before=True)
    places = iter(rng.permutation(NEURONS).tolist())
    tokens = rng.permutation(np.arange(FIRST_TOKEN, TOKENS)).tolist()
    embedding = model.model.decoder.embed_tokens.weight

    truth.dead[layer] = {next(places) for _ in range(5)}
    for neuron in truth.dead[layer]:
        bias[neuron] = -1.0
        output[:, neuron] = 5.0  # it would say much

    truth.detectors[layer], truth.suppressing[layer] = {}, set()
    for number, size in enumerate((1, 1, 1, 2, 3)):
        neuron, detected = next(places), {tokens.pop() for _ in range(size)}
        weight[neuron, list(detected)] = scale
        bias[neuron] = -0.5
        sign = -1.0 if number % 2 else 1.0
        output[:, neuron] = SMALL * sign * embedding[list(detected)].sum(0)
        truth.detectors[layer][neuron] = detected
        if sign < 0:
            truth.suppressing[layer].add(neuron)

    truth.bigrams[layer] = {}
    for _ in range(3):
        neuron, first, second = next(places), tokens.pop(), tokens.pop()
        weight[neuron, BEFORE.start + first] = weight[neuron, second] = scale
        bias[neuron] = -1.5
        truth.bigrams[layer][neuron] = (first, second)

    truth.positional[layer] = {}
    for kind, strong in (("oscillatory", True), ("both_extremes", True), ("one_extreme", True)):
        neuron = next(places)
        truth.positional[layer][neuron] = (kind, strong)
        if kind == "oscillatory":
            # cos(8 pi p / 64), off its zeros.
            weight[neuron, POSITION.start + 4] = scale
            bias[neuron] = -0.05
            continue
        # cos(pi p / 128) falls from 1 to 0.
        weight[neuron, POSITION.start + 8] = 20 * scale
        bias[neuron] = -20 * math.cos(WAVES[2] * 30.5)
        if kind == "one_extreme":
            kept = rng.choice(np.arange(FIRST_TOKEN, TOKENS), size=30, replace=False)
            weight[neuron, kept.tolist()] = -30 * scale

    for neuron in places:
        weight[neuron, NOW] = torch.from_numpy(rng.normal(size=81)).float()
        weight[neuron, POSITION] = 0.05 * torch.from_numpy(rng.normal(size=12)).float()
        output[:, neuron] = SMALL * torch.from_numpy(rng.normal(size=WIDTH)).float()
