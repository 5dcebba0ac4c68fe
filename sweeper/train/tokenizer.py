"""The model's own tokenizer: a byte-level BPE, trained on the text that the model will read."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
"""Ends every document; token 0, as in Pythia's vocabulary."""


def train_tokenizer(documents: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train the BPE: the same vocabulary for the same documents.

    Args:
        documents: the text.
        vocab_size: entries wanted; a short text may have fewer merges to give.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def for_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers saves and loads it; adds no special tokens by itself."""
    wrap: Any = PreTrainedTokenizerFast  # has no annotations
    wrapped: PreTrainedTokenizerFast = wrap(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END
    )
    return wrapped
