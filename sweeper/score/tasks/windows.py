"""What tasks over non-overlapping windows of a corpus share: their facts and their texts."""

from collections.abc import Mapping
from typing import Any

from sweeper.errors import UserError
from sweeper.records import TaskFacts
from sweeper.score import corpus as corpora
from sweeper.score.tasks.base import CHARACTERS_PER_TOKEN
from sweeper.score.texts import Texts
from sweeper.score.tokens import Span, window_spans, windows
from sweeper.spec.corpus import CorpusSpec
from sweeper.spec.task import WindowsSpec


def text_of(corpus: CorpusSpec | None) -> str:
    """The corpus as one text.

    Raises:
        ValueError: there is none; the job's own check should have said so.
        UserError: it cannot be read.
    """
    if corpus is None:
        raise ValueError("a task over windows needs a corpus")
    return corpora.text(corpus)


def window_facts(
    spec: WindowsSpec, text: str, data: str, kind: str, rules: Mapping[str, Any]
) -> TaskFacts:
    """Fingerprint, rules and size of a task whose items and clusters are windows.

    Args:
        spec: the task.
        text: the corpus.
        data: fingerprint of what is read.
        kind: the task's kind.
        rules: what else the numbers depend on.
    """
    # At most one token per character; the true number needs the tokenizer.
    count = max(int(len(text) / CHARACTERS_PER_TOKEN / spec.length), 1)
    num_windows = count if spec.limit is None else min(count, spec.limit)
    return TaskFacts(
        identity={
            "kind": kind,
            **rules,
            "data": data,
            "length": spec.length,
            "limit": spec.limit,
            "prefix": spec.prefix,
            "keep_tokens": spec.keep_tokens,
        },
        positions=float(min(num_windows * spec.length, len(text) / CHARACTERS_PER_TOKEN)),
        num_items=num_windows,
        num_clusters=num_windows,
        has_accuracy=False,
    )


def window_texts(tokenizer: Any, context: int, spec: WindowsSpec, text: str) -> Texts:
    """Tokenise the corpus and cut it into windows of ``min(length, context)`` tokens.

    Raises:
        UserError: the corpus has fewer than two tokens.
    """
    length = min(spec.length, context)
    rows = windows(tokenizer, text, length, length, spec.limit, spec.prefix)
    if not rows:
        raise UserError(f"corpus {spec.corpus!r} holds no text to score")
    return Texts(rows=rows)


def window_places(
    tokenizer: Any, context: int, spec: WindowsSpec, text: str
) -> list[list[Span]] | None:
    """Each token's characters in the corpus, for the rows of ``window_texts``.

    None where the tokenizer does not tell.
    """
    length = min(spec.length, context)
    return window_spans(tokenizer, text, length, length, spec.limit, spec.prefix)


def window_names(count: int) -> list[str]:
    """Names of windows, in order; windows are clusters under these names."""
    return [f"window{index:05d}" for index in range(count)]
