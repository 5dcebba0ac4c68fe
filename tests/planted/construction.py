"""A small GPT-NeoX whose weights are put together by hand, so that its truth is known.

Two layers, 128 hidden dimensions, 256 MLP neurons in each layer, GELU, sequential residuals. It
speaks the language of ``planted.language``. What it is made of:

**Residual stream.** A token's embedding holds a constant (16 on two dimensions with opposite
signs: it makes LayerNorm an almost constant scaling), its word class (one-hot), and for a subject
its number n = 1 or -1 and a random vector e of its own (24 dimensions, norm 2) that says which word
it is. 48 further dimensions are the *answers*: z_p = +-0.5 for each of the 24 lemmas (which number)
and 24 object pairs (which word), written by the MLPs.

**Attention.** One head of the first layer copies (n, e) of the latest subject to every later
position. Its score is 25 * [key is a subject] - 150 sin(0.01 d) at a distance of d tokens, the
second part by one rotary pair, so that the subject before, 6 or more tokens earlier, gets less than
exp(-8) of the weight.

**Head.** With c the class of the last token, a word of class k has the logit log P(k | c) - log |k|
(verbs and objects: less log cosh 1.5, which their answers add), and the two words of question p in
addition +-1.5 (z_p / 0.5 + b_p). So the log-odds of right to wrong are 3 (1 +- b_p): certain, up to
the prior b_p, normal with sd 0.5.

**Planted neurons**, three at known random places in each layer (256 neurons: exactly what "top 1 %"
takes). They read the number alone: their pre-activation is

    a = -0.75 for the number that they detect, GELU(a) = -0.170,
    a = +0.02 for the other one,               GELU(a) = +0.010,

two points, as far from a Gaussian as can be; three of the six detect singular and three plural.
Their output columns are c * d, with d the answer directions of the 24 lemmas and c negative for
singular, positive for plural, so that together they write exactly the right number. All of it is in
the negative half: max(a, 0) leaves 0.010 of 0.170, less than the priors b_p; min(a, 0) takes away
just these 0.010.

**Ordinary neurons**, the other 253, have a = w.e + b with random w and b, about Gaussian over the
64 subjects. Their output columns W give each layer's half of the answers that are left to them.
With A (65 x 253) their activations after each subject and before any, and Z (65 x 48) what they are
to write there,

    W = A+ Z + (1 - A+ A) R,

A+ being the pseudo-inverse and R random numbers. R changes nothing in the model as it is: it makes
every answer that ordinary neurons carry depend on many of them, each a little. A few of them
clamped do nothing visible, a third of them flips answers at random. With the plant, R is a tenth as
large for the lemmas' answers, and Z is zero there.

**The plant removed.** The same, but the planted neurons' columns are random vectors over all 48
answers, twice as long: still the neurons with the largest WD, with much to say, none of it about
number. The ordinary neurons make up for that, and give the number too, in the same way as the
facts. Both tasks are then of one kind: whatever a clamp adds to z_p is drawn for each p by itself,
from one distribution for lemmas and pairs. So the expected interaction of task and condition is
zero, although both conditions hurt both tasks.

Shapes: B rows, T positions, F neurons, S subject forms (64), P answers (48).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from planted.language import (
    FOLLOWERS,
    IDS,
    LEMMAS,
    NUMBER,
    PAIRS,
    UNKNOWN,
    VOCABULARY,
    WORDS,
    Language,
    save_tokenizer,
)
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

NUM_LAYERS, NUM_NEURONS, HIDDEN, HEADS, CONTEXT = 2, 256, 128, 4, 64
PER_LAYER = 3
"""Planted neurons in each layer."""

DETECTED, OTHER = -0.75, 0.02
"""Pre-activations of a planted neuron: at the number that it detects, and at the other one."""
ANSWER = 0.5
"""Size of a sure answer z_p in the residual stream."""
LOG_ODDS, PRIOR_SD = 3.0, 0.5
SPREAD = 0.9
"""Standard deviation of ordinary neurons' null-space weights, in units of ``ANSWER``."""
UNPLANTED = 2.0
"""Norm of the planted neurons' columns with the plant removed, relative to their norm with it. A
random column makes some answers surer, so it needs more of it to raise perplexity as much."""
LEAK = 0.1
"""Part of ``SPREAD`` that ordinary neurons write onto number where they do not carry it."""
CONSTANT, WORD_NORM = 16.0, 2.0
ABSENT = -20.0
"""Log-probability of a word class that cannot follow."""

_SIZES = {
    "constant": 2,
    "class": len(WORDS),
    "filler": 2,
    "number": 2,
    "word": 24,
    "subject_number": 2,
    "subject_word": 24,
    "answer": len(LEMMAS) + len(PAIRS),
    "spare": 1,
}
_STOPS = np.cumsum(list(_SIZES.values())).tolist()
PLACE = {
    name: slice(stop - size, stop)
    for (name, size), stop in zip(_SIZES.items(), _STOPS, strict=True)
}
"""Part of the residual stream -> its dimensions."""
_OPPOSITE = torch.tensor([1.0, -1.0])
_SLOPE, _BONUS = 1.5, 25.0


@dataclass(frozen=True)
class Planted:
    """Where the planted neurons are, and which number each of them detects."""

    places: dict[int, tuple[int, ...]]
    """Layer -> sorted neurons."""
    detects: dict[int, tuple[int, ...]]
    """Layer -> 1 (singular) or -1 (plural), in the same order."""


def build_planted(language: Language, folder: Path, *, plant: bool) -> Planted:
    """Put a model together and save it with its tokenizer in Hugging Face format.

    Args:
        language: what it is to know; its generator draws everything that is random.
        folder: where to.
        plant: whether number is carried by the planted neurons' negative half; otherwise by the
            ordinary neurons, as the facts are.
    """
    rng = language.rng
    model = _empty_model()
    rows = _rows()
    with torch.no_grad():
        _fill_embedding(model, rng)
        _fill_attention(model, rows)
        planted = _places(rng)
        left = _fill_planted_outputs(model, planted, rng, language.answers, plant=plant)
        spread = np.full(left.shape[1], SPREAD)
        spread[: len(LEMMAS)] *= LEAK if plant else 1
        for layer in range(NUM_LAYERS):
            _fill_inputs(model, layer, planted, rows, rng)
            mlp = model.gpt_neox.layers[layer].mlp
            ordinary = np.setdiff1d(np.arange(NUM_NEURONS), planted.places[layer])
            features = _by_subject(_capture(model, mlp.act, rows))[:, ordinary]
            random = rng.standard_normal((len(ordinary), len(spread))) * spread
            _fill_ordinary_outputs(mlp, ordinary, features, left / NUM_LAYERS, random)
        _fill_head(model, rows, rng)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return planted


def _empty_model() -> GPTNeoXForCausalLM:
    config = GPTNeoXConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=HIDDEN,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=NUM_NEURONS,
        hidden_act="gelu",
        max_position_embeddings=CONTEXT,
        use_parallel_residual=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPTNeoXForCausalLM(config)
    for name, parameter in model.named_parameters():
        is_norm = "norm" in name and name.endswith("weight")
        nn.init.constant_(parameter, float(is_norm))
    return model.train(False)


def _balance(weight: Tensor) -> None:
    """Let rows sum to 0 over a dimension that nothing writes to: they do not see LayerNorm's mean.

    The mean depends on what else is in the residual stream, so on what a clamp takes out of it.
    """
    weight[:, PLACE["spare"]] = 0.0
    weight[:, PLACE["spare"]] = -weight.sum(1, keepdim=True)


def _rows() -> Tensor:
    """A beginning of a sentence for each subject: "the SUBJECT often", (S, 3)."""
    return torch.tensor([[IDS["the"], subject, IDS["often"]] for subject in _subject_ids()])


def _fill_embedding(model: GPTNeoXForCausalLM, rng: np.random.Generator) -> None:
    weight = model.gpt_neox.embed_in.weight
    weight[:, PLACE["constant"]] = CONSTANT * _OPPOSITE
    # As long as what a subject has instead, so that LayerNorm scales all tokens alike.
    weight[:, PLACE["filler"]] = _OPPOSITE * np.sqrt((WORD_NORM**2 + 2) / 2)
    for index, words in enumerate(WORDS.values()):
        weight[[IDS[word] for word in words], PLACE["class"].start + index] = 1.0
    subjects = _subject_ids()
    vectors = rng.standard_normal((len(subjects), _SIZES["word"]))
    vectors -= vectors.mean(1, keepdims=True)
    vectors *= WORD_NORM / np.linalg.norm(vectors, axis=1, keepdims=True)
    weight[subjects, PLACE["filler"]] = 0.0
    weight[subjects, PLACE["number"]] = _tensor(NUMBER)[:, None] * _OPPOSITE
    weight[subjects, PLACE["word"]] = _tensor(vectors)


def _fill_attention(model: GPTNeoXForCausalLM, rows: Tensor) -> None:
    """Let head 0 of layer 0 copy number and word of the latest subject."""
    layer = model.gpt_neox.layers[0]
    size = HIDDEN // HEADS
    query, key, value = (slice(start, start + size) for start in (0, size, 2 * size))
    weight, bias = layer.attention.query_key_value.weight, layer.attention.query_key_value.bias
    scale = _scale(model, layer.input_layernorm, rows)
    # Rotary dimensions 2 and 6 of a head are a pair that turns by 0.01 per position: a query a
    # quarter turn ahead of the key gives cos(0.01 d + pi / 2) = -sin(0.01 d).
    bias[key][2] = 1.0
    bias[query][6] = _SLOPE / 0.01 * size**0.5
    is_subject = PLACE["class"].start + list(WORDS).index("subject")
    weight[key][8, is_subject] = _BONUS * size**0.5 * scale
    bias[query][8] = 1.0
    for begin, source, target in (
        (0, PLACE["number"], PLACE["subject_number"]),
        (2, PLACE["word"], PLACE["subject_word"]),
    ):
        for offset in range(source.stop - source.start):
            weight[value][begin + offset, source.start + offset] = scale
            layer.attention.dense.weight[target.start + offset, begin + offset] = 1.0
    _balance(weight)


def _places(rng: np.random.Generator) -> Planted:
    places, detects = {}, {}
    for layer in range(NUM_LAYERS):
        chosen = rng.choice(NUM_NEURONS, PER_LAYER, replace=False)
        places[layer] = tuple(sorted(chosen.tolist()))
        detects[layer] = (1, -1, 1) if layer % 2 == 0 else (-1, 1, -1)
    return Planted(places, detects)


def _fill_planted_outputs(
    model: GPTNeoXForCausalLM,
    planted: Planted,
    rng: np.random.Generator,
    answers_SP: NDArray[np.int64],
    *,
    plant: bool,
) -> NDArray[np.float64]:
    """Write the planted neurons' output columns.

    Returns:
        What is left for the ordinary neurons, in units of ``ANSWER``, (S, P).
    """
    low, high = nn.functional.gelu(torch.tensor([DETECTED, OTHER])).tolist()
    size = 1 / (PER_LAYER * NUM_LAYERS / 2 * (low - high))
    left_SP = answers_SP.astype(float)
    for layer, neurons in planted.places.items():
        for neuron, detected in zip(neurons, planted.detects[layer], strict=True):
            column_P = np.zeros(left_SP.shape[1])
            column_P[: len(LEMMAS)] = detected * size
            if not plant:
                direction = rng.standard_normal(len(column_P))
                direction /= np.linalg.norm(direction)
                column_P = UNPLANTED * np.linalg.norm(column_P) * direction
            output = model.gpt_neox.layers[layer].mlp.dense_4h_to_h.weight
            output[PLACE["answer"], neuron] = _tensor(column_P) * ANSWER
            left_SP -= np.outer(np.where(detected == NUMBER, low, high), column_P)
    return left_SP


def _fill_inputs(
    model: GPTNeoXForCausalLM, layer: int, planted: Planted, rows: Tensor, rng: np.random.Generator
) -> None:
    """Write what the neurons of a layer read."""
    mlp = model.gpt_neox.layers[layer].mlp
    weight, bias = mlp.dense_h_to_4h.weight, mlp.dense_h_to_4h.bias
    scale = _scale(model, model.gpt_neox.layers[layer].post_attention_layernorm, rows)
    size = (NUM_NEURONS, _SIZES["subject_word"])
    weight[:, PLACE["subject_word"]] = _tensor(rng.standard_normal(size)) * scale / WORD_NORM
    bias[:] = _tensor(0.3 * rng.standard_normal(NUM_NEURONS))
    half = scale * _OPPOSITE / 2
    for neuron, detected in zip(planted.places[layer], planted.detects[layer], strict=True):
        weight[neuron] = 0.0
        weight[neuron, PLACE["subject_number"]] = half * detected * (DETECTED - OTHER) / 2
        bias[neuron] = (DETECTED + OTHER) / 2
    _balance(weight)


def _fill_ordinary_outputs(
    mlp: nn.Module,
    ordinary: NDArray[np.int64],
    features_SF: NDArray[np.float64],
    targets_SP: NDArray[np.float64],
    random_FP: NDArray[np.float64],
) -> None:
    """Write the ordinary neurons' output columns, W of the docstring.

    Args:
        mlp: of the layer.
        ordinary: its ordinary neurons, (F,).
        features_SF: their activations, before any subject and then after each, (1 + S, F).
        targets_SP: what they are to write, in units of ``ANSWER``, (S, P).
        random_FP: R, in the same units.
    """
    inverse_FS = np.linalg.pinv(features_SF)
    nothing_P = np.zeros((1, targets_SP.shape[1]))
    wanted_SP = np.concatenate([nothing_P, targets_SP]) - features_SF @ random_FP
    columns_FP = (random_FP + inverse_FS @ wanted_SP) * ANSWER
    mlp.dense_4h_to_h.weight[PLACE["answer"], ordinary] = _tensor(columns_FP.T)


def _fill_head(model: GPTNeoXForCausalLM, rows: Tensor, rng: np.random.Generator) -> None:
    weight = model.get_output_embeddings().weight
    scale = _scale(model, model.gpt_neox.final_layer_norm, rows)
    names = list(WORDS)
    weight[IDS[UNKNOWN], PLACE["class"]] = ABSENT * scale
    for word_class, words in WORDS.items():
        ids = [IDS[word] for word in words]
        # The answers multiply the two words of a question by exp(1.5) and exp(-1.5).
        total = len(words) * (np.cosh(LOG_ODDS / 2) if word_class in ("verb", "object") else 1.0)
        for index, before in enumerate(names):
            chance = FOLLOWERS[before].get(word_class)
            logit = ABSENT if chance is None else np.log(chance / total)
            weight[ids, PLACE["class"].start + index] = float(logit) * scale
    prior_P = PRIOR_SD * rng.standard_normal(_SIZES["answer"])
    for question in range(_SIZES["answer"]):
        word_class = "verb" if question < len(LEMMAS) else "object"
        first = 2 * (question % len(LEMMAS))
        for word, sign in zip(WORDS[word_class][first : first + 2], (1, -1), strict=True):
            row = weight[IDS[word]]
            row[PLACE["answer"].start + question] = sign * LOG_ODDS / 2 / ANSWER * scale
            bias = sign * LOG_ODDS / 2 * float(prior_P[question])
            row[PLACE["constant"]] = bias / (2 * CONSTANT) * _OPPOSITE * scale
    _balance(weight)


def _capture(model: GPTNeoXForCausalLM, module: nn.Module, rows: Tensor) -> Tensor:
    """What a module puts out over the rows."""
    kept: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        model.gpt_neox(rows)
    finally:
        handle.remove()
    return kept[0]


def _scale(model: GPTNeoXForCausalLM, norm: nn.Module, rows: Tensor) -> float:
    """What a LayerNorm divides by after a subject, found by what it makes of the constant."""
    constant = _capture(model, norm, rows)[:, -1, PLACE["constant"].start]
    return CONSTANT / float(constant.double().mean())


def _by_subject(values_STF: Tensor) -> NDArray[np.float64]:
    """Values where no subject has come yet, then after each of them, (1 + S, F)."""
    values: NDArray[np.float64] = values_STF.double().numpy()
    return np.concatenate([values[:1, 0], values[:, -1]])


def _subject_ids() -> list[int]:
    return [IDS[word] for word in WORDS["subject"]]


def _tensor(values: NDArray[np.float64] | NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
