"""Where the MLP of each supported family sits, as data: no family has code of its own."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeper.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Module paths and configuration keys of one ``model_type`` of transformers.

    A neuron is one output of ``pre_activation``: the linear layer that feeds the activation
    function (in gated MLPs the gate, never the up projection).
    """

    layers: str
    """Path of the list of decoder layers, from the causal language model."""
    pre_activation: str
    """Path inside a layer, as the next three."""
    activation: str
    output: str
    """The projection back to the residual stream."""
    final: tuple[str, ...] = ("norm",)
    """What follows the last layer, inside the decoder; those that a model lacks are None there."""
    mask_by_layer_type: bool = False
    """The decoder takes ``{"full_attention": mask, "sliding_attention": mask}``."""
    up: str | None = None
    """The projection that the activated gate is multiplied with; None where there is none, and
    where it is the second half of ``pre_activation`` (``fused_gate``)."""
    gated: bool = False
    fused_gate: bool = False
    """The first half of the outputs of ``pre_activation`` is the gate, the second the factor."""
    transposed: bool = False
    """The weights of ``pre_activation`` are kept as (inputs, neurons)."""
    output_is_added: bool = True
    """What ``output`` puts out is added to the residual stream as it is, without a norm between."""
    eager_only: bool = False
    """Only eager attention computes this family rightly."""
    num_layers_key: str = "num_hidden_layers"
    width_key: str = "intermediate_size"
    """Configuration key of the number of MLP units in a layer."""
    hidden_key: str = "hidden_size"
    heads_key: str = "num_attention_heads"
    width_multiple: int | None = None
    """MLP units per hidden unit where ``width_key`` is absent or null."""
    context_key: str = "max_position_embeddings"
    activation_key: str = "hidden_act"
    """Configuration key of the name of the activation function."""
    soft_cap_key: str | None = None
    """Configuration key of c in logits = c tanh(logits / c)."""

    @property
    def decoder(self) -> str:
        """Path of the module that maps tokens to the last hidden states."""
        return self.layers.rpartition(".")[0]


_GATED = Family(
    layers="model.layers",
    pre_activation="mlp.gate_proj",
    activation="mlp.act_fn",
    output="mlp.down_proj",
    up="mlp.up_proj",
    gated=True,
)

_TYPED_LAYERS = replace(_GATED, mask_by_layer_type=True)

FAMILIES: Mapping[str, Family] = {
    "gpt2": Family(
        layers="transformer.h",
        final=("ln_f",),
        pre_activation="mlp.c_fc",
        transposed=True,
        activation="mlp.act",
        output="mlp.c_proj",
        num_layers_key="n_layer",
        width_key="n_inner",
        hidden_key="n_embd",
        heads_key="n_head",
        width_multiple=4,
        context_key="n_positions",
        activation_key="activation_function",
    ),
    "gpt_neox": Family(
        layers="gpt_neox.layers",
        final=("final_layer_norm",),
        pre_activation="mlp.dense_h_to_4h",
        activation="mlp.act",
        output="mlp.dense_4h_to_h",
    ),
    "opt": Family(
        layers="model.decoder.layers",
        final=("final_layer_norm", "project_out"),
        pre_activation="fc1",
        activation="activation_fn",
        output="fc2",
        width_key="ffn_dim",
        activation_key="activation_function",
    ),
    "llama": _GATED,
    "mistral": _GATED,
    "qwen2": _TYPED_LAYERS,
    "qwen3": _TYPED_LAYERS,
    "olmo": _GATED,
    "olmo2": replace(_GATED, output_is_added=False),
    "olmo3": replace(_TYPED_LAYERS, output_is_added=False),
    "gemma2": Family(
        layers="model.layers",
        mask_by_layer_type=True,
        pre_activation="mlp.gate_proj",
        activation="mlp.act_fn",
        output="mlp.down_proj",
        up="mlp.up_proj",
        gated=True,
        output_is_added=False,
        activation_key="hidden_activation",
        eager_only=True,  # sdpa has no soft cap on the attention scores
        soft_cap_key="final_logit_softcapping",
    ),
    "gemma3_text": Family(
        layers="model.layers",
        mask_by_layer_type=True,
        pre_activation="mlp.gate_proj",
        activation="mlp.act_fn",
        output="mlp.down_proj",
        up="mlp.up_proj",
        gated=True,
        output_is_added=False,
        activation_key="hidden_activation",
        soft_cap_key="final_logit_softcapping",
    ),
    "phi": Family(
        layers="model.layers",
        final=("final_layernorm",),
        pre_activation="mlp.fc1",
        activation="mlp.activation_fn",
        output="mlp.fc2",
    ),
    "phi3": Family(
        layers="model.layers",
        pre_activation="mlp.gate_up_proj",
        activation="mlp.activation_fn",
        output="mlp.down_proj",
        gated=True,
        fused_gate=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The sizes that planning needs before anything is loaded."""

    num_layers: int
    num_neurons: int
    """MLP units per layer."""
    context: int
    """Longest row in tokens."""


def family_of(model_type: str) -> Family:
    """The family of a ``config.model_type``.

    Raises:
        UserError: the table has no such family.
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    nearest = difflib.get_close_matches(model_type, FAMILIES, n=1, cutoff=0.0)[0]
    raise UserError(
        f"model_type {model_type!r} is not supported, the nearest is {nearest!r}; "
        f"supported: {', '.join(FAMILIES)}"
    )


def dimensions(family: Family, config: Mapping[str, Any]) -> Dimensions:
    """Read the sizes from the content of a ``config.json``.

    Raises:
        UserError: a key is missing or no positive whole number.
    """
    width = config.get(family.width_key)
    if width is None and family.width_multiple is not None:
        width = family.width_multiple * size_of(config, family.hidden_key)
    return Dimensions(
        num_layers=size_of(config, family.num_layers_key),
        num_neurons=size_of({**config, family.width_key: width}, family.width_key),
        context=size_of(config, family.context_key),
    )


def size_of(config: Mapping[str, Any], key: str) -> int:
    """A size of a ``config.json``.

    Raises:
        UserError: it is missing or no positive whole number.
    """
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise UserError(f"config.json: {key} is {value!r}, a positive whole number is needed")
    return value
