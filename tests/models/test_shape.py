import json

import pytest

from sweeper.errors import UserError
from sweeper.models.families import FAMILIES, family_of
from sweeper.models.shape import shape

GROUPED = {"num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False}
REAL = {
    "gpt2": (
        "gpt2",
        {"n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257},
        124.4e6,
    ),
    "pythia-1.4b": (
        "gpt_neox",
        {"num_hidden_layers": 24, "hidden_size": 2048, "num_attention_heads": 16}
        | {"intermediate_size": 8192, "vocab_size": 50304, "tie_word_embeddings": False},
        1414.6e6,
    ),
    "SmolLM2-135M": (
        "llama",
        {"num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536}
        | {"num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152}
        | {"tie_word_embeddings": True},
        134.5e6,
    ),
    "Llama-3.1-8B": (
        "llama",
        {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336}
        | {**GROUPED, "vocab_size": 128256},
        8030e6,
    ),
    "gemma-2-2b": (
        "gemma2",
        {"num_hidden_layers": 26, "hidden_size": 2304, "intermediate_size": 9216, "head_dim": 256}
        | {"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 256000},
        2614e6,
    ),
}
"""Model -> family, its published config.json as far as it is read, and its published size."""


@pytest.mark.parametrize("name", REAL)
def test_parameters_of_published_models(name):
    model_type, config, published = REAL[name]
    config = {"max_position_embeddings": 2048, **config}
    found = shape(family_of(model_type), config)
    assert found.num_parameters == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_widths_are_those_of_the_loaded_weights(tiny_model, tiny_folder, model_type):
    config = json.loads((tiny_folder(model_type) / "config.json").read_text())
    found = shape(family_of(model_type), config)
    model = tiny_model(model_type)
    assert len(model.sites) == found.num_layers
    assert model.sites[0].size == found.neurons
    assert len(model.model.get_input_embeddings().weight) == found.vocabulary
    matrices = {id(p): p.numel() for p in model.model.parameters() if p.ndim == 2}
    # Learned positions and OPT's projections are left out; they count in so small a model only.
    assert 0.7 * sum(matrices.values()) < found.num_parameters <= 1.1 * sum(matrices.values())
    assert model.checkpoint.num_parameters == found.num_parameters


def test_missing_width_is_named():
    config = {"num_hidden_layers": 2, "max_position_embeddings": 8, "intermediate_size": 8}
    with pytest.raises(UserError, match=r"config\.json: hidden_size is None"):
        shape(family_of("llama"), config)
