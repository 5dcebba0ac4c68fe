"""The sizes of a model that the memory of its weights and activations follows from. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.models.families import Family, dimensions, size_of

MOST_PACKED = 4e9
"""Bytes of weights that are laid out a second time on CPU (``models.packed``); of a larger model
nothing is, since the copy could fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Widths of a decoder."""

    num_layers: int
    hidden: int
    """D: width of the residual stream."""
    neurons: int
    """F: MLP hidden units of a layer."""
    heads: int
    queries: int
    """A: heads x size of a head."""
    keys: int
    """K: key heads x size of a head."""
    vocabulary: int
    num_projections: int
    """Matrices of an MLP: 3 with a gate, otherwise 2."""
    tied: bool
    """Whether input and output embedding are one matrix."""

    @property
    def num_parameters(self) -> int:
        """Weights of all matrices; biases, norms and learned positions (1 % at most) left out."""
        attention = 2 * self.hidden * (self.queries + self.keys)
        mlp = self.num_projections * self.hidden * self.neurons
        embeddings = (1 if self.tied else 2) * self.vocabulary * self.hidden
        return self.num_layers * (attention + mlp) + embeddings


def shape(family: Family, config: Mapping[str, Any]) -> Shape:
    """Read the sizes from the content of a ``config.json``.

    Raises:
        UserError: a key is missing or no positive whole number.
    """
    sizes = dimensions(family, config)
    hidden, heads = size_of(config, family.hidden_key), size_of(config, family.heads_key)
    head_size = config.get("head_dim") or hidden // heads
    return Shape(
        num_layers=sizes.num_layers,
        hidden=hidden,
        neurons=sizes.num_neurons,
        heads=heads,
        queries=heads * head_size,
        keys=(config.get("num_key_value_heads") or heads) * head_size,
        vocabulary=size_of(config, "vocab_size"),
        num_projections=3 if family.gated else 2,
        tied=bool(config.get("tie_word_embeddings", True)),
    )
