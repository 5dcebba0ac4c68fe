"""From text to rows of token ids."""

from typing import Any

Row = list[int]
"""Token ids of one text or window, special tokens included."""


def encode(tokenizer: Any, texts: list[str]) -> list[Row]:
    """Tokenise texts one by one, with the special tokens that the tokenizer itself adds.

    (BOS for Llama, none for Pythia: the convention of the minimal-pair literature.)
    """
    if not texts:
        return []
    rows: list[Row] = tokenizer(texts, verbose=False)["input_ids"]
    return rows


def windows(tokenizer: Any, text: str, length: int, stride: int, limit: int | None) -> list[Row]:
    """Cut a text into windows of ``length`` tokens that begin every ``stride`` tokens.

    The last window may be shorter; it is dropped when it has nothing new or fewer than 2 tokens
    (there would be nothing to predict).
    """
    row = encode(tokenizer, [text])[0]
    starts = range(0, max(len(row) - (length - stride), 1), stride)
    cut = [row[start : start + length] for start in starts]
    return [window for window in cut if len(window) >= 2][:limit]
