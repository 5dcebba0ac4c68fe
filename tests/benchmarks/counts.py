"""How much work a set of texts is: positions, distinct prefixes, and floating-point operations."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from sweeper.models.loading import LoadedModel
from sweeper.score.tokens import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counted from the texts themselves, whatever any side makes of them."""

    texts: int
    positions: int
    """Inputs when every text is scored alone; the last token of a text is none."""
    nodes: int
    """Distinct prefixes among these inputs: what has to be computed once."""
    attended: int
    """Positions that the nodes attend to, each node's own among them."""
    heads: int
    """Distinct prefixes after which a scored token stands: where the output head must run. It need
    not where the two sentences of a pair part, since only their logits are compared there."""

    @property
    def saved(self) -> float:
        """Share of the positions that need not be computed again."""
        return 1 - self.nodes / self.positions

    def as_record(self) -> dict[str, Any]:
        """Plain data for bench.json."""
        return {**asdict(self), "saved": self.saved}


def count(
    rows: Sequence[Row], starts: Sequence[int], relative: Sequence[bool] | None = None
) -> Counts:
    """Count the prefix tree of rows whose scored tokens are ``row[start:]``.

    Args:
        rows: token rows.
        starts: first scored token of each.
        relative: rows that are only compared with those that have the same tokens before ``start``.
    """
    children: dict[tuple[int, int], int] = {}
    heads: set[int] = set()
    positions = attended = 0
    compared = relative or [False] * len(rows)
    for row, start, only_compared in zip(rows, starts, compared, strict=True):
        node = -1
        for place, token in enumerate(row[:-1]):
            positions += 1
            known = len(children)
            node = children.setdefault((node, token), known)
            if node == known:
                attended += place + 1
            if place >= (start if only_compared else start - 1):
                heads.add(node)
    return Counts(
        texts=len(rows),
        positions=positions,
        nodes=len(children),
        attended=attended,
        heads=len(heads),
    )


def flops(model: LoadedModel, counts: Counts) -> float:
    """Floating-point operations of matrix products, each node and each head computed once.

    Two for every weight of the layers' linear maps and of the output head, and for every layer
    four per attended position and unit of attention width (scores, and mixing of values).
    Elementwise work, norms and softmax are not counted.
    """
    config: Any = model.model.config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = head_dim * config.num_attention_heads
    linear = 2 * sum(weight.numel() for weight in _weights(model.layers))
    attention = 4 * width * len(model.layers)
    head = 2 * sum(weight.numel() for weight in _weights(model.head))
    return float(linear * counts.nodes + attention * counts.attended + head * counts.heads)


def _weights(module: nn.Module) -> list[Tensor]:
    return [part.weight for part in module.modules() if isinstance(part, nn.Linear | Conv1D)]
