"""Texts of words that a tokenizer knows one by one, for models whose tokens are put in by hand."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

NUM_SPECIAL = 4
"""Ids below stand for nothing: unknown, begin, end, and one that is never used."""


def vocabulary(size: int) -> list[str]:
    """A word for each token id."""
    special = [f"<{number}>" for number in range(NUM_SPECIAL)]
    return special + [f"w{number}" for number in range(NUM_SPECIAL, size)]


def save_words(folder: Path, size: int) -> None:
    """Save a tokenizer with one token for each word, in Hugging Face format."""
    words = vocabulary(size)
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    unknown, begin, end, _ = words[:NUM_SPECIAL]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unknown, bos_token=begin, eos_token=end
    ).save_pretrained(folder)


def as_text(windows: Sequence[Sequence[int]], size: int) -> str:
    """Text that the tokenizer turns into these windows, one after the other."""
    words = vocabulary(size)
    return " ".join(words[token] for window in windows for token in window)
