"""What a worker does for a removal: MLPs of layers with a quorum taken out, handlers switched."""

import pandas as pd
from pydantic import TypeAdapter

from sweeper.models.loading import LoadedModel
from sweeper.neurons.routing.removal import removal as measure
from sweeper.neurons.routing.roles import Quorum
from sweeper.records import Unit
from sweeper.run.census_work import MissingPartError, census_text
from sweeper.run.found import Found
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row, windows
from sweeper.spec.routing import RoutingSpec
from sweeper.store import Store


def removal(model: LoadedModel, unit: Unit, budget: TokenBudget, store: str) -> Found:
    """Compute a unit of kind ``removal``: the table ``removal``, empty without any quorum.

    Args:
        model: the loaded model, without clamps.
        unit: of one cell; its ``analysis`` names the routing cell that it builds upon.
        budget: most positions in one forward pass.
        store: address of the store, which holds that cell.

    Raises:
        ValueError: the unit is no removal, or the text has no whole window.
        MissingPartError: the routing cell is not in the store.
        StaleDataError: the text is another one than the driver's.
        FloatingPointError: a loss or a divergence is NaN or infinite.
    """
    if unit.analysis is None:
        raise ValueError("the unit is no removal")
    spec = TypeAdapter(RoutingSpec).validate_python(unit.analysis["spec"])
    quorums = _quorums(store, unit.analysis["routing"])
    rows = _windows(model, unit, spec) if quorums else []
    table = measure(model, rows, quorums, budget, threshold=spec.threshold, fires=spec.fires)
    num_passes = 1 + int(table["level"].isna().sum())
    return Found(
        tables={"removal": table},
        num_items=len(table),
        num_tokens=num_passes * sum(len(row) - 1 for row in rows),
    )


def _quorums(address: str, key: str) -> dict[int, Quorum]:
    """Handler and consensus neurons by layer, of the layers that have both."""
    store = Store(address)
    if key not in store.done_keys():
        raise MissingPartError("the store lacks the routing analysis that the removal builds upon")
    columns = ["layer", "neuron", "role", "place"]
    table: pd.DataFrame = store.table("routing_neurons", [key], columns).to_pandas()
    found = {}
    for layer, of_layer in table.sort_values(["layer", "place"]).groupby("layer"):
        handlers, consensus = (
            of_layer.loc[of_layer["role"] == role, "neuron"].tolist()
            for role in ("handler", "consensus")
        )
        if handlers and consensus:
            found[int(str(layer))] = Quorum(handler=handlers[0], consensus=tuple(consensus))
    return found


def _windows(model: LoadedModel, unit: Unit, spec: RoutingSpec) -> list[Row]:
    """The first whole windows of the text."""
    text, _ = census_text(unit)
    length = min(spec.length, model.checkpoint.context)
    rows = windows(model.tokenizer, text, length, length, spec.removal_windows)
    whole = [row for row in rows if len(row) == length]
    if not whole:
        raise ValueError(f"corpus {spec.corpus!r} has no whole window of {length} tokens")
    return whole
