"""Texts that one batch must not mix: LongRoPE decides about a whole batch by its longest text."""

from collections.abc import Sequence

import numpy as np

from sweeper.models.loading import LoadedModel
from sweeper.score.texts import Scores, Texts


def parts(model: LoadedModel, texts: Texts) -> list[list[int]]:
    """Indices of the texts that may be computed together.

    With rotary positions of the type ``longrope``, transformers takes one set of factors while all
    positions of a batch are below ``original_max_position_embeddings``, and another one otherwise.
    """
    everything = list(range(len(texts.rows)))
    config = model.model.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    if parameters.get("rope_type") != "longrope":
        return [everything]
    limit = parameters["original_max_position_embeddings"]
    # The last token is not an input.
    short = [index for index in everything if len(texts.rows[index]) - 1 <= limit]
    long = [index for index in everything if len(texts.rows[index]) - 1 > limit]
    return [part for part in (short, long) if part] or [everything]


def chosen(texts: Texts, part: Sequence[int]) -> Texts:
    """Some of the texts."""
    starts = None if texts.starts is None else [texts.starts[index] for index in part]
    # Not relative: rows with the same beginning may be in different parts.
    return Texts(rows=[texts.rows[index] for index in part], starts=starts, greedy=texts.greedy)


def joined(scored: Sequence[Scores], members: Sequence[Sequence[int]]) -> Scores:
    """What one condition says of all texts, from what it says of parts of them."""
    place = np.argsort(np.concatenate([np.array(part, np.int64) for part in members]))
    logprobs = [values for scores in scored for values in scores.logprobs]
    greedy = [values for scores in scored for values in scores.greedy or ()]
    return Scores(
        logprobs=[logprobs[index] for index in place],
        greedy=[greedy[index] for index in place] if greedy else None,
        values_seen=sum(scores.values_seen for scores in scored),
        values_changed=sum(scores.values_changed for scores in scored),
    )
