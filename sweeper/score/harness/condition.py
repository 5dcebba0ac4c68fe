"""A condition as an argument: from a file, or written out on the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sweeper.errors import UserError
from sweeper.records import Checkpoint, Condition
from sweeper.spec.condition import ConditionSpec, ExplicitSet, WholeLayers
from sweeper.spec.errors import first_of, problems_of
from sweeper.spec.wording import one_line

_FILES = (".yaml", ".yml", ".json")


def read_condition(said: str | Mapping[Any, Any] | None, checkpoint: Checkpoint) -> Condition:
    """The condition that an argument says.

    Args:
        said: path of a YAML or JSON file, the same inline, or its content:
            ``{operation: zero, neurons: {0: [1, 2]}}`` with the neurons of each layer, or a
            condition as in a job with an explicit set or whole layers. None is the baseline.
        checkpoint: whose layers ``{kind: all}`` means.

    Raises:
        UserError: not readable, not a condition, or one that needs a census.
    """
    content = _content(said) if isinstance(said, str) else said
    if content is None:
        return Condition(name="baseline", seed=None, operation=None)
    if not isinstance(content, Mapping):
        raise UserError(
            f"condition: {said!r} is neither a file nor {{operation: NAME, neurons: "
            "{LAYER: [NEURON, ...]}}"
        )
    spec = _validated(content)
    value, neurons = _value(spec), _neurons(spec, checkpoint)
    return Condition(
        name="condition",
        seed=None,
        operation=spec.operation,
        neurons=neurons,
        values={}
        if value is None
        else {layer: (value,) * len(chosen) for layer, chosen in neurons.items()},
        allow_unchanged=spec.allow_unchanged,
    )


def _content(said: str) -> Any:
    """What a file or an inline text holds; JSON is YAML too."""
    text = said
    if said.endswith(_FILES):
        try:
            text = Path(said).expanduser().read_text()
        except OSError as error:
            raise UserError(f"condition: {said!r} cannot be read ({error.strerror})") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"condition: {said!r} is not valid YAML ({one_line(str(error))})"
        ) from error


def _validated(content: Mapping[Any, Any]) -> ConditionSpec:
    data = dict(content)
    neurons = data.get("neurons")
    if isinstance(neurons, Mapping) and "kind" not in neurons:
        data["neurons"] = neurons = {"kind": "explicit", "neurons": neurons}
    if isinstance(neurons, Mapping) and isinstance(neurons.get("neurons"), Mapping):
        # JSON has no keys but text.
        sets = {_number(layer): chosen for layer, chosen in neurons["neurons"].items()}
        data["neurons"] = {**neurons, "neurons": sets}
    try:
        return ConditionSpec.model_validate(data)
    except ValidationError as error:
        problem = first_of(problems_of(error, ConditionSpec), data)
        raise UserError(f"condition.{problem}") from None


def _number(layer: Any) -> Any:
    return int(layer) if isinstance(layer, str) and layer.isdigit() else layer


def _value(spec: ConditionSpec) -> float | None:
    """The number that is put in for every neuron, where the operation puts in one."""
    if spec.operation == "mean":
        raise UserError(
            "condition.operation: 'mean' is not allowed here; it needs a census, and that is for "
            "sweeps"
        )
    if spec.operation == "set" and spec.value is None:
        raise UserError("condition.value: missing; operation set needs a number")
    if spec.operation != "set" and spec.value is not None:
        raise UserError(
            f"condition.value: {spec.value:g} is given, but operation {spec.operation} takes no "
            "value; only set does"
        )
    return spec.value


def _neurons(spec: ConditionSpec, checkpoint: Checkpoint) -> dict[int, tuple[int, ...]]:
    chosen = spec.neurons
    if chosen is None:
        return {}
    if isinstance(chosen, ExplicitSet):
        return {layer: tuple(sorted(neurons)) for layer, neurons in chosen.neurons.items()}
    if isinstance(chosen, WholeLayers) and (
        chosen.layers == "all" or isinstance(chosen.layers, list)
    ):
        layers = range(checkpoint.num_layers) if chosen.layers == "all" else chosen.layers
        return dict.fromkeys(layers, tuple(range(checkpoint.num_neurons)))
    raise UserError(
        "condition.neurons: only named neurons (kind: explicit) and whole layers (kind: all; all "
        "layers or a list) are allowed here; sets that need a census are for sweeps"
    )
