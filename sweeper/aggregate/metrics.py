"""The metrics of each kind of task, and which of them the documents of a harness task have."""

from dataclasses import dataclass

METRICS: dict[str, tuple[str, ...]] = {
    "minimal_pairs": ("accuracy", "margin"),
    "perplexity": ("nll",),
    "lm_eval": ("accuracy", "margin", "nll"),
    "surprisal": ("nll", "shifted"),
}
"""Metrics of each kind of task; of a harness task those that its documents have."""
SHIFTED = "shifted"
"""A group's nats per token minus those of all tokens: what the groups differ in."""
COLUMNS = {"accuracy": "correct", "margin": "margin", "nll": "logprob"}
"""The columns of items that metrics are made of; of ``shifted`` that of ``nll``."""


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """Which metrics the documents of a harness task have."""

    complete: frozenset[str]
    """Those of every document in every cell."""
    ragged: frozenset[str]
    """Those that some cells lack where others have them."""

    def metrics(self) -> list[str]:
        """What can be compared, in a fixed order."""
        found = set(self.complete)
        if "margin" in self.complete | self.ragged:
            # The log-probability of the right one of given answers is no perplexity.
            found.discard("nll")
        if "accuracy" in found:
            found.discard("acc")  # the same
        first = list(COLUMNS)
        return sorted(found, key=lambda name: (name not in first, (*first, name).index(name), name))
