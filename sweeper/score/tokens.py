"""From text to rows of token ids, and which characters each token stands for."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sweeper.errors import UserError
from sweeper.spec.task import Prefix

Row = list[int]
"""Token ids of one text or window, special tokens included."""

Span = tuple[int, int]
"""Where a token's characters begin and end in its text; ``NO_SPAN`` for special tokens."""

NO_SPAN: Span = (-1, -1)

_Token = TypeVar("_Token")


def encode(tokenizer: Any, texts: Sequence[str], prefix: Prefix = "tokenizer") -> list[Row]:
    """Tokenise texts one by one.

    Args:
        tokenizer: a tokenizer of transformers.
        texts: the texts.
        prefix: the special tokens: those that the tokenizer itself adds (BOS for Llama, none for
            Pythia: the convention of the minimal-pair literature), one BOS in front, or none.

    Raises:
        UserError: ``bos``, and the tokenizer has neither BOS nor EOS.
    """
    front = _front(tokenizer, prefix)
    return [[*front, *row] for row in _tokenise(tokenizer, texts, prefix)["input_ids"]]


def spans(
    tokenizer: Any, texts: Sequence[str], prefix: Prefix = "tokenizer"
) -> list[list[Span]] | None:
    """Each token's characters, for the rows of ``encode``; None where the tokenizer cannot tell.

    Characters are those of the text as given, whatever the tokenizer makes of it.
    """
    if not tokenizer.is_fast:
        return None
    front = [NO_SPAN] * len(_front(tokenizer, prefix))
    found = _tokenise(
        tokenizer, texts, prefix, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    pairs = zip(found["offset_mapping"], found["special_tokens_mask"], strict=True)
    return [[*front, *map(_span, offsets, special)] for offsets, special in pairs]


def windows(
    tokenizer: Any,
    text: str,
    length: int,
    stride: int,
    limit: int | None,
    prefix: Prefix = "tokenizer",
) -> list[Row]:
    """Cut a text into windows of ``length`` tokens that overlap by ``length - stride``.

    The text is tokenised once. A prefix of ``bos`` stands in front of every window and takes one
    of its tokens. The last window may be shorter; it is dropped when it has nothing new or fewer
    than 2 tokens (there would be nothing to predict).

    Raises:
        UserError: as ``encode``.
    """
    row = encode(tokenizer, [text], prefix)[0]
    return _cut(row, len(_front(tokenizer, prefix)), length, stride)[:limit]


def window_spans(
    tokenizer: Any,
    text: str,
    length: int,
    stride: int,
    limit: int | None,
    prefix: Prefix = "tokenizer",
) -> list[list[Span]] | None:
    """Each token's characters in the whole text, for the rows of ``windows``."""
    found = spans(tokenizer, [text], prefix)
    if found is None:
        return None
    return _cut(found[0], len(_front(tokenizer, prefix)), length, stride)[:limit]


def _tokenise(tokenizer: Any, texts: Sequence[str], prefix: Prefix, **asked: bool) -> Any:
    if not texts:
        return {key: [] for key in ("input_ids", "offset_mapping", "special_tokens_mask")}
    own = prefix == "tokenizer"
    return tokenizer(list(texts), add_special_tokens=own, verbose=False, **asked)


def _front(tokenizer: Any, prefix: Prefix) -> Row:
    """What this project, not the tokenizer, puts in front of a text."""
    if prefix != "bos":
        return []
    # GPT-2's kind has one token for both ends; others (Qwen) have no BOS, only the EOS that
    # stands between documents.
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [token]
    raise UserError(
        "prefix: bos needs a tokenizer with a BOS or an EOS token, this one has neither; "
        "allowed are tokenizer and none"
    )


def _span(offsets: Span, special: int) -> Span:
    return NO_SPAN if special else offsets


def _cut(row: list[_Token], num_front: int, length: int, stride: int) -> list[list[_Token]]:
    front, body = row[:num_front], row[num_front:]
    room, overlap = length - num_front, length - stride
    starts = range(0, max(len(body) - overlap, 1), room - overlap)
    cut = [[*front, *body[start : start + room]] for start in starts]
    return [window for window in cut if len(window) >= 2]
