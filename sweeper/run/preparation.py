"""What can be computed now beside the scored cells, and what turns out not to be had at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.neurons.select import LayerNeurons
from sweeper.records import Cell, Checkpoint, Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A condition that a model does not have: no set matches another one, or no neuron a label."""

    model: str
    revision: str
    condition: str
    reason: str
    cells: Mapping[tuple[str, str], int]
    """(kind of cell, its task) -> how many cells of the job are lacking for it."""
    cost: float
    """Their expected work, in token positions."""

    @property
    def num_cells(self) -> int:
        """Cells of the job that are lacking for it."""
        return sum(self.cells.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """A cell beside the scored ones, most of which others wait for, that can be computed now."""

    cell: Cell
    windows: tuple[int, int] | None = None
    """Of a part of a text: its first window, and the one after its last."""
    parts: tuple[str, ...] = ()
    """Of a census: cell keys of the parts that it is merged from; none where it is not cut."""
    target: Condition | None = None
    """Of a match: the condition to be matched."""
    census: Cell | None = None
    """Of a match: the census that orders the neurons."""
    neurons: LayerNeurons = field(default_factory=dict)
    """Of a profile: the neurons to look at."""
    previous: Checkpoint | None = None
    """Of a drift: the earlier revision."""
    analysis: Mapping[str, Any] | None = None
    """Of firing, n-grams, routing and removal: what ``Unit.analysis`` tells the worker."""

    @property
    def is_awaited(self) -> bool:
        """Whether more becomes known when it is done."""
        return self.cell.kind not in ("profile", "drift", "removal")
