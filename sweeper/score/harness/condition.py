"""A condition as an argument: from a file, or written out on the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sweeper.errors import UserError
from sweeper.records import Condition
from sweeper.spec.condition import ConditionSpec, ExplicitSet
from sweeper.spec.errors import first_of, problems_of
from sweeper.spec.wording import one_line

_FILES = (".yaml", ".yml", ".json")


def read_condition(said: str | Mapping[Any, Any] | None) -> Condition:
    """The condition that an argument says.

    Args:
        said: path of a YAML or JSON file, the same inline, or its content:
            ``{operation: zero, neurons: {0: [1, 2]}}`` with the neurons of each layer, or a
            condition as in a job with an explicit set. None is the baseline.

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
    neurons = {} if spec.neurons is None else _explicit(spec).neurons
    return Condition(
        name="condition",
        seed=None,
        operation=spec.operation,
        neurons={layer: tuple(sorted(chosen)) for layer, chosen in neurons.items()},
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


def _explicit(spec: ConditionSpec) -> ExplicitSet:
    if not isinstance(spec.neurons, ExplicitSet):
        raise UserError(
            "condition.neurons: only named neurons are allowed here (kind: explicit); sets that "
            "need a census are for sweeps"
        )
    return spec.neurons
