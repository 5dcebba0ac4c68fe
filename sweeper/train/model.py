"""A fresh GPT-NeoX of the sizes that a job asks for."""

import math

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from sweeper.spec.training import ArchitectureSpec


def new_model(spec: ArchitectureSpec, vocab_size: int, seed: int) -> GPTNeoXForCausalLM:
    """Build a model with random weights that the seed decides, in training mode.

    As Pythia: GELU, attention and MLP side by side, rotary embeddings on a quarter of each head's
    dimensions, input and output embeddings apart. Weights are normal with the deviation
    sqrt(2 / (5 hidden_size)) of Nguyen and Salazar 2019 (arXiv 1910.05895, "SmallInit").
    """
    config = GPTNeoXConfig(
        vocab_size=vocab_size,
        hidden_size=spec.hidden_size,
        num_hidden_layers=spec.num_hidden_layers,
        num_attention_heads=spec.num_attention_heads,
        intermediate_size=spec.intermediate_size,
        max_position_embeddings=spec.max_position_embeddings,
        initializer_range=math.sqrt(2 / (5 * spec.hidden_size)),
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPTNeoXForCausalLM(config)
    model.train()
    return model
