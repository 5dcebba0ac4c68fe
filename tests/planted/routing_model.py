"""A small OPT whose last layer routes by a consensus of three neurons, put together by hand.

Three layers, ReLU, 64 MLP neurons in each, 400 words, windows of 64. What it is made of:

**Words.** A word has three marks, each of which may be *strange*; a code u of 6 numbers; a part A,
B or C; and a few flags. Words come in twins that differ in the sign of u alone, so that nothing
that reads u tells twins apart by how much it does for them, and whatever fires for a word by its
code is silent for its twin. A tenth of all words have three strange marks (the exceptions), a tenth
two, a tenth one, the others none: with c ordinary marks a word has the consensus level c. A tenth
of the words of every kind are *responses*.

**Residual stream.** Each number stands on two dimensions with opposite signs, so that every state
sums to 0, beside a constant of 100: LayerNorm is a known constant (within 1 %). Attention adds
nothing. No layer reads what another one has written.

**Layer 2, decision.** Three consensus neurons, 1/2 where their mark is ordinary and silent where it
is strange. A handler, max(0, s - 2.2 + q / 2) with s strange marks and a flag q = +-1: it fires for
all exceptions and for half of the words of level 1. Sixteen neurons max(0, +-v.u - 0.9 (3 - s)),
which make the output a sum of |v.u| for exceptions, as far from affine as can be. Decoys: a neuron
that fires for exceptions, but too often for a handler; one that is silent there, but too often
elsewhere for consensus; one that is silent for too few of them; neurons that always fire, and
neurons that seldom do, for words of no kind; and a little |v.u| for part B, without a gateway.

**Layer 0, scaffold.** A gateway fires for words of part B. The output is |v.u| for part B, three
times as much for part C, and 0 for part A. **Layer 1, diffuse.** Small sums of |v.u| for all words.

**Head.** Responses have the logit a, all other words 0; a is what layer 2 writes on one dimension,
4 - 1.4 (level) + (the handler's value). Without that MLP a is 0, and a tenth of the words are
responses. The texts are drawn from the model's own probabilities (``response_chance``), so that
taking the MLP out costs on average the KL divergence of a tenth from them: 1.8 nats for exceptions,
0.85, 0.11 and 0.002 at levels 1 to 3.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from planted.empty_opt import empty_opt
from planted.words import NUM_SPECIAL, save_words
from torch import Tensor
from transformers import OPTForCausalLM

NUM_WORDS, CODE = 400, 6
FIRST_WORD, TOKENS = NUM_SPECIAL, NUM_SPECIAL + NUM_WORDS
MARKS, LENGTH, NEURONS, LAYERS = 3, 64, 64, 3
SCAFFOLD, DIFFUSE, DECISION = range(LAYERS)
CONSTANT = 100.0
BASE_RATE = 0.1
"""Share of responses among the words."""
PULL, AGAINST = 4.0, 1.4
STRICT = 0.9

_SIZES = {
    "constant": 1,
    "strange": MARKS,
    "turned": 1,
    "part_b": 1,
    "part_c": 1,
    "often": 1,
    "seldom": 1,
    "patchy": 1,
    "code": CODE,
    "answer": 1,
    **{f"written_{layer}": CODE for layer in range(LAYERS)},
}
_STOPS = np.cumsum(list(_SIZES.values())).tolist()
PLACE = {
    name: slice(stop - size, stop)
    for (name, size), stop in zip(_SIZES.items(), _STOPS, strict=True)
}
"""Number of a state -> its places; each has a second dimension with the opposite sign."""
WIDTH = 2 * _STOPS[-1]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Words:
    """What each word is; arrays over the 400 words."""

    features: dict[str, Floats]
    """Name of a place -> (words, its size)."""
    is_response: NDArray[np.bool_]

    @property
    def level(self) -> NDArray[np.int64]:
        """Ordinary marks: how many consensus neurons fire."""
        return MARKS - self.features["strange"].sum(1).astype(int)

    @property
    def handler(self) -> Floats:
        """The handler's value."""
        turned = self.features["turned"][:, 0]
        return np.maximum(MARKS - self.level - 2.2 + turned / 2, 0.0)

    @property
    def answer(self) -> Floats:
        """a of the docstring."""
        return PULL - AGAINST * self.level + self.handler

    @property
    def response_chance(self) -> Floats:
        """Probability that a response follows."""
        return chance_of(self.answer)


def chance_of(answer: Floats) -> Floats:
    """Probability of a response where their logit is so much above that of other words."""
    odds = BASE_RATE / (1 - BASE_RATE) * np.exp(answer)
    return odds / (1 + odds)


@dataclass
class Routing:
    """Which neurons do what; layer -> neurons."""

    words: Words
    consensus: dict[int, set[int]] = field(default_factory=dict)
    handler: dict[int, int] = field(default_factory=dict)
    gateway: dict[int, int] = field(default_factory=dict)
    decoys: dict[str, int] = field(default_factory=dict)
    """Of the decision layer, by name."""


def build_routing_model(folder: Path, seed: int = 1) -> Routing:
    """Put the model together and save it with its tokenizer in Hugging Face format."""
    rng = np.random.default_rng(seed)
    model = empty_opt(
        tokens=TOKENS,
        width=WIDTH,
        layers=LAYERS,
        neurons=NEURONS,
        length=LENGTH,
        tie_word_embeddings=False,
    )
    truth = Routing(_draw_words(rng))
    with torch.no_grad():
        _fill_embeddings(model, truth.words)
        _fill_scaffold(_Layer(model, SCAFFOLD, rng), truth)
        _fill_diffuse(_Layer(model, DIFFUSE, rng))
        _fill_decision(_Layer(model, DECISION, rng), truth)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    save_words(folder, TOKENS)
    return truth


def texts(words: Words, num: int, seed: int) -> list[list[int]]:
    """Windows of token ids, drawn from the model's own probabilities."""
    rng = np.random.default_rng(seed)
    kinds = [np.flatnonzero(~words.is_response), np.flatnonzero(words.is_response)]
    chance = words.response_chance
    found = np.empty((num, LENGTH), np.int64)
    found[:, 0] = rng.integers(NUM_WORDS, size=num)
    for position in range(1, LENGTH):
        responds = rng.random(num) < chance[found[:, position - 1]]
        drawn = np.stack([rng.choice(kind, size=num) for kind in kinds])
        found[:, position] = np.where(responds, drawn[1], drawn[0])
    windows: list[list[int]] = (found + FIRST_WORD).tolist()
    return windows


def _draw_words(rng: np.random.Generator) -> Words:
    """Draw pairs of twins: first of other words, then of responses, with all kinds in both."""
    pairs, tenth = NUM_WORDS // 2, NUM_WORDS // 20
    others = pairs - tenth
    strange = np.zeros((pairs, MARKS))
    features: dict[str, Floats] = {name: np.zeros((pairs, 1)) for name in list(_SIZES)[2:8]}
    for begin, size in ((0, others // 10), (others, tenth // 10)):
        for offset in range(3 * size):
            number = offset % size
            marks = (range(MARKS), {number % MARKS, (number + 1) % MARKS}, {number % MARKS})
            strange[begin + offset, list(marks[offset // size])] = 1.0
        parts = np.repeat(["a", "b", "c"], [5 * size, 2 * size, 3 * size])
        parts = rng.permutation(parts)
        for part in "bc":
            features[f"part_{part}"][begin : begin + 10 * size, 0] = parts == part
    kinds = strange.sum(1)
    features["turned"][:, 0] = np.where(np.arange(pairs) % 2, 1.0, -1.0)
    features["often"][:, 0] = (kinds > 0) | (rng.random(pairs) < 0.2)
    features["seldom"][:, 0] = (kinds < MARKS) & (np.arange(pairs) % 2 == 0)
    features["patchy"][:, 0] = (np.arange(pairs) > 1) & (rng.random(pairs) < 0.9)
    code = rng.standard_normal((pairs, CODE))
    twins = {name: np.repeat(values, 2, axis=0) for name, values in features.items()}
    twins["strange"] = np.repeat(strange, 2, axis=0)
    twins["code"] = np.stack([code, -code], axis=1).reshape(NUM_WORDS, CODE)
    return Words(twins, is_response=np.arange(NUM_WORDS) >= 2 * others)


def _put(target: Tensor, name: str, values: Floats | float) -> None:
    """Add numbers to the last dimension of a tensor, and their opposites beside them."""
    place, numbers = PLACE[name], torch.as_tensor(values, dtype=torch.float32)
    target[..., place] += numbers
    target[..., WIDTH // 2 :][..., place] -= numbers


SCALE = CONSTANT * (2 / WIDTH) ** 0.5
"""What LayerNorm divides by."""


def _fill_embeddings(model: OPTForCausalLM, words: Words) -> None:
    embedding, head = model.model.decoder.embed_tokens.weight, model.lm_head.weight
    _put(embedding, "constant", CONSTANT)
    for name, values in words.features.items():
        _put(embedding[FIRST_WORD:], name, values)
    responses = FIRST_WORD + torch.from_numpy(np.flatnonzero(words.is_response))
    rows = head[responses]
    _put(rows, "answer", SCALE / 2)
    head[responses] = rows
    _put(head[:FIRST_WORD], "constant", -20.0 * SCALE / (2 * CONSTANT))  # never follows


class _Layer:
    """Puts neurons into random places of one layer's MLP."""

    def __init__(self, model: OPTForCausalLM, index: int, rng: np.random.Generator) -> None:
        block = model.model.decoder.layers[index]
        self.bias = block.fc2.bias
        self.rng = rng
        self._written = f"written_{index}"
        self._weight, self._own_bias, self._output = block.fc1.weight, block.fc1.bias, block.fc2
        self._left: list[int] = rng.permutation(NEURONS).tolist()

    def add(
        self,
        reads: dict[str, Floats | float],
        bias: float,
        column: Floats | None = None,
        answer: float = 0.0,
    ) -> int:
        """Put in a neuron with the pre-activation reads.state + bias.

        Args:
            reads: weights for the numbers of a state.
            bias: what is added.
            column: what it writes on this layer's own dimensions, for an activation of 1.
            answer: what it writes on the answer.
        """
        neuron = self._left.pop()
        for name, weights in reads.items():
            _put(self._weight[neuron], name, np.asarray(weights) * SCALE / 2)
        self._own_bias[neuron] = bias
        written = torch.zeros(WIDTH)
        if column is not None:
            _put(written, self._written, column)
        _put(written, "answer", answer)
        self._output.weight[:, neuron] = written
        return neuron

    def add_absolute(
        self,
        direction: Floats,
        column: Floats,
        gates: dict[str, Floats | float] | None = None,
        bias: float = 0.0,
    ) -> None:
        """Put in two neurons that together write |v.u| for a direction v, where gates let them."""
        for sign in (1.0, -1.0):
            self.add({"code": sign * direction, **(gates or {})}, bias, column)

    def unit(self) -> Floats:
        """A random direction of codes."""
        drawn = self.rng.standard_normal(CODE)
        return drawn / np.linalg.norm(drawn)

    def add_ordinary(self) -> None:
        """Fill the places that are left with neurons that fire for some codes."""
        while self._left:
            self.add({"code": 0.5 * self.unit()}, 0.0, 0.02 * self.unit())


def _fill_scaffold(layer: _Layer, truth: Routing) -> None:
    truth.gateway[SCAFFOLD] = layer.add({"part_b": 1.0}, -0.5, layer.unit())
    for part, size, number in (("part_b", 1.0, 12), ("part_c", 3.0, 6)):
        for _ in range(number):
            layer.add_absolute(layer.unit(), size * layer.unit(), {part: 5.0}, -5.0)
    layer.add_ordinary()


def _fill_diffuse(layer: _Layer) -> None:
    for _ in range(NEURONS // 2):
        layer.add_absolute(layer.unit(), 0.1 * layer.unit())


def _fill_decision(layer: _Layer, truth: Routing) -> None:
    truth.consensus[DECISION] = {
        layer.add({"strange": -np.eye(MARKS)[mark]}, 0.5, answer=-2 * AGAINST)
        for mark in range(MARKS)
    }
    truth.handler[DECISION] = layer.add(
        {"strange": np.ones(MARKS), "turned": 0.5}, -2.2, answer=1.0
    )
    _put(layer.bias, "answer", PULL)
    code, gates = truth.words.features["code"], {"strange": STRICT * np.ones(MARKS)}
    for _ in range(4):
        column = 2 * layer.unit()
        for sign in (1.0, -1.0):  # so that exceptions have no mean output of their own
            direction = layer.unit()
            mean = np.abs(code[truth.words.level == 0] @ direction).mean()
            layer.add_absolute(direction, sign * column / mean, gates, -STRICT * MARKS)
    for _ in range(6):
        layer.add_absolute(layer.unit(), 0.5 * layer.unit(), {"part_b": 5.0}, -5.0)
    for decoy in ("often", "seldom", "patchy"):
        truth.decoys[decoy] = layer.add({decoy: 1.0}, -0.5, 0.1 * layer.unit())
    for _ in range(8):
        layer.add({"code": 0.5 * layer.unit()}, 3.0, 0.1 * layer.unit())
    for _ in range(8):
        direction = layer.unit()
        values = np.sort(truth.words.features["code"] @ direction)
        layer.add({"code": direction}, -float(values[-8:-6].mean()), 0.1 * layer.unit())
    layer.add_ordinary()
