from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.models.loading import LoadedModel

_SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
_COMMON = {"vocab_size": 128, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
_CONTEXT = {"max_position_embeddings": 64}
_GROUPED = {**_SIZES, **_CONTEXT, "intermediate_size": 48, "num_key_value_heads": 2}
_WINDOW = {**_GROUPED, "head_dim": 8, "sliding_window": 16}

TINY_CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "gpt_neox": {**_SIZES, **_CONTEXT, "intermediate_size": 48},
    "opt": {**_SIZES, **_CONTEXT, "ffn_dim": 48, "word_embed_proj_dim": 16},
    "llama": _GROUPED,
    "mistral": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
    "olmo": {**_GROUPED, "clip_qkv": 4.0},
    "olmo2": _GROUPED,
    "olmo3": {**_GROUPED, "sliding_window": 16},
    "gemma2": {**_WINDOW, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0},
    "gemma3_text": {**_WINDOW, "final_logit_softcapping": 3.0},
    "phi": {**_SIZES, **_CONTEXT, "intermediate_size": 48},
    "phi3": _GROUPED,
}
"""Sizes of a small model of every family; MLP width 48 (GPT-2: 128), context 64, 3 layers."""

_TEXT = """the cat sees the dogs that the old man feeds every morning near the river bank
no student who has read these books would ever believe what she said about her sister
they think that it is not easy to find a small house with many windows in this town"""


def build_tiny(model_type: str, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Save a random model of a family, and a small tokenizer, in Hugging Face format."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {**_COMMON, **TINY_CONFIGS[model_type], **changes}
    config = AutoConfig.for_model(model_type, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():  # fresh biases are 0, norms 1: too tame for a test
            parameter.data += 0.1 * torch.randn(parameter.shape)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def load_folder(name: str, folder: Path, **options: str) -> "LoadedModel":
    """A local folder as a loaded model, by the product's own way."""
    from sweeper.models import resolve, weights_folder
    from sweeper.models.loading import load
    from sweeper.spec.model import ModelSpec

    spec = ModelSpec.model_validate({"path": str(folder), **options})
    checkpoint = resolve(name, spec, "cpu")
    return load(checkpoint, spec, weights_folder(checkpoint, spec))


def save_tokenizer(folder: Path) -> None:
    """Train a byte-level BPE of 128 entries on three lines of text and save it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(set(_TEXT) - {" ", "\n"})
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=128,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=[*letters, "Ġ", "Ċ", ".", ","],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT.splitlines(), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    wrapped.save_pretrained(folder)


_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(folder: Path, target: Path) -> Path:
    """Write a saved Llama and its byte-level tokenizer as a float32 GGUF file."""
    import json

    import gguf
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, folder, config["vocab_size"])
    for name, values in load_file(folder / "model.safetensors").items():
        if "q_proj" in name or "k_proj" in name:  # GGUF keeps rotary pairs side by side
            count = heads if "q_proj" in name else groups
            halves = values.reshape(count, 2, -1, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape).copy()
        writer.add_tensor(_gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _gguf_name(name: str) -> str:
    path, _, kind = name.rpartition(".")
    if path in _GGUF_NAMES:
        return f"{_GGUF_NAMES[path]}.{kind}"
    _, _, layer, inner = path.split(".", 3)
    return f"blk.{layer}.{_GGUF_NAMES[inner]}.{kind}"


def _add_tokenizer(writer: Any, folder: Path, size: int) -> None:
    import json

    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    tokens += [f"unused{index}" for index in range(size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (size - 1))
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
