"""Program that turns a GGUF file into a folder in Hugging Face format (float32 safetensors).

``python -m sweeper.models.gguf SOURCE DESTINATION``. It is a process of its own because it needs
torch and much memory, and a process that only plans a sweep should have neither.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
from transformers.integrations.gguf.reader import read_gguf_metadata

_BYTE_LEVEL = ("gpt-2", "default")
"""Splitting rules of byte-level vocabularies that are transformers' own default."""


def convert(source: Path, destination: Path) -> None:
    """Write model and tokenizer of the GGUF file ``source`` into the folder ``destination``.

    Raises:
        ValueError: the file's architecture or tokenizer is not known, or weights are missing.
    """
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    _split_as_trained(tokenizer, read_gguf_metadata(str(source))[0])
    auto: Any = AutoModelForCausalLM
    model, report = auto.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32, output_loading_info=True
    )
    if report["missing_keys"]:
        raise ValueError(f"the file lacks weights: {sorted(report['missing_keys'])[:3]}")
    # transformers marks the model as quantised and refuses to save it; the weights are plain
    # float32 by now, so they move into an unmarked model of the same shape.
    config = model.config
    del config.quantization_config
    with torch.device("meta"):
        plain = auto.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict(), strict=True, assign=True)
    plain.tie_weights()
    plain.save_pretrained(destination)
    tokenizer.save_pretrained(destination)


def _split_as_trained(tokenizer: PreTrainedTokenizerBase, metadata: dict[str, Any]) -> None:
    """Cut text before merging as the file says, where transformers does not know the rule."""
    name = metadata.get("tokenizer.ggml.pre")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or name is None:
        return
    if name == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif name not in GGUF_PRE_TOKENIZER_SPLITS and name not in _BYTE_LEVEL:
        raise ValueError(f"tokenizer.ggml.pre {name!r} is not known: tokens would come out wrong")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
