"""Which conditions share most of a forward pass: those that do the same in the first layers.

The engine computes what conditions of one unit have in common once, so they should be neighbours.
"""

from collections.abc import Iterable, Mapping

from sweeper.records import Cell, Condition

Action = tuple[str, tuple[int, ...], tuple[float, ...]]
"""What a condition does in a layer: the operation, its neurons, and what it puts into them."""


def layers_shared(first: Condition, second: Condition, num_layers: int) -> int:
    """Number of layers, from the bottom, that are the same under both conditions."""
    for layer in range(num_layers):
        if _action(first, layer) != _action(second, layer):
            return layer
    return num_layers


def neighbours(
    cells: Iterable[Cell], conditions: Mapping[str, Condition], num_layers: int
) -> list[Cell]:
    """Cells in an order in which those that share most layers follow one another.

    Args:
        cells: scored cells of one checkpoint.
        conditions: their conditions by key.
        num_layers: layers of the model.
    """

    def path(cell: Cell) -> tuple[Action, ...]:
        condition = conditions[str(cell.condition_key)]
        return tuple(_action(condition, layer) for layer in range(num_layers))

    return sorted(cells, key=path)


def _action(condition: Condition, layer: int) -> Action:
    chosen = tuple(condition.neurons.get(layer, ()))
    values = tuple(condition.values.get(layer, ()))
    return (str(condition.operation), chosen, values) if chosen else ("", (), ())
