"""An OPT of zeros, whose weights are put in by hand."""

from typing import Any

import torch
from transformers import OPTConfig, OPTForCausalLM


def empty_opt(
    *, tokens: int, width: int, layers: int, neurons: int, length: int, **more: Any
) -> OPTForCausalLM:
    """One head in each layer; every weight is 0 but those of the norms, which are 1."""
    config = OPTConfig(
        vocab_size=tokens,
        hidden_size=width,
        word_embed_proj_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=1,
        ffn_dim=neurons,
        max_position_embeddings=length,
        dropout=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )
    model = OPTForCausalLM(config)
    for name, parameter in model.named_parameters():
        is_norm = "norm" in name and name.endswith("weight")
        torch.nn.init.constant_(parameter, float(is_norm))
    return model.train(False)
