"""Which work a unit of firing, n-grams, routing or removal is."""

from collections.abc import Callable, Mapping

from sweeper.models.loading import LoadedModel
from sweeper.records import CellKind, Unit
from sweeper.run.firing_work import firing, firing_part
from sweeper.run.found import Found
from sweeper.run.ngram_work import ngrams, ngrams_part
from sweeper.run.removal_work import removal
from sweeper.run.routing_work import routing
from sweeper.score.memory import TokenBudget

Analysis = Callable[[LoadedModel, Unit, TokenBudget, str], Found]

ANALYSES: Mapping[CellKind, Analysis] = {
    "firing_part": firing_part,
    "firing": firing,
    "ngrams_part": ngrams_part,
    "ngrams": ngrams,
    "routing": routing,
    "removal": removal,
}
"""By kind of cell."""


def analyse(model: LoadedModel, unit: Unit, budget: TokenBudget, store: str) -> Found:
    """Compute a unit that tells its ``analysis``.

    Args:
        model: the loaded model, without clamps.
        unit: of one cell.
        budget: most positions in one forward pass.
        store: address of the store, which holds what the unit builds upon.

    Raises:
        ValueError: the unit is no analysis, or a text has no whole window.
        StaleDataError: a text is another one than the driver's.
    """
    work = ANALYSES.get(unit.cells[0].kind)
    if work is None or unit.analysis is None:
        raise ValueError(f"a unit of kind {unit.cells[0].kind} is no analysis")
    return work(model, unit, budget, store)
