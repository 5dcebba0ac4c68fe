"""From the job's conditions to resolved neuron sets, by what the store knows. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from sweeper.errors import UserError
from sweeper.neurons.labels import ROLES
from sweeper.neurons.moments import balance, nearest_by_moments
from sweeper.neurons.select import (
    LayerNeurons,
    bottom_of_others,
    by_statistic,
    put_in,
    random_set,
)
from sweeper.plan.cells import labelled, needs_census, needs_label, needs_match, seeds_of
from sweeper.plan.layers import Concrete, concrete_conditions
from sweeper.plan.revisions import followed_from
from sweeper.records import Checkpoint, Condition
from sweeper.spec.condition import (
    ByStatistic,
    ExplicitSet,
    LabelledSet,
    Layers,
    MatchedSet,
    RandomSet,
    WholeLayers,
)
from sweeper.spec.job import JobSpec


@dataclass(slots=True)
class Sets:
    """The sets of a job's conditions on one model, as far as they can be known."""

    job: JobSpec
    checkpoint: Checkpoint
    neurons: pd.DataFrame | None
    """The census; None as long as there is none."""
    matches: dict[str, float] = field(default_factory=dict)
    """Share of each layer that was found, by name of the matched condition; filled as matches
    are found."""
    labels: dict[str, LayerNeurons] = field(default_factory=dict)
    """Neurons by label (``neurons.labels``); filled as the analyses that tell them are there."""
    references: Mapping[str, "Sets"] = field(default_factory=dict)
    """The sets of other revisions, by the job's word for the revision: conditions that are chosen
    there have theirs here, too."""
    conditions: Mapping[str, Concrete] = field(init=False)
    _chosen: dict[tuple[str, int | None], LayerNeurons] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.conditions = concrete_conditions(self.job, self.checkpoint)

    def known(self, name: str) -> bool:
        """Whether the condition's neurons can be known."""
        reference = self.reference(name)
        if reference is not None:
            # Neurons from there, and the means that are put into them from here.
            needs_own = self.conditions[name].spec.operation == "mean"
            return reference.known(name) and (self.neurons is not None or not needs_own)
        match, label = needs_match(self.conditions, name), needs_label(self.conditions, name)
        has_match = match is None or match in self.matches
        has_label = label is None or label in self.labels
        return (
            has_match
            and has_label
            and (self.neurons is not None or not needs_census(self.conditions, name))
        )

    def reference(self, name: str) -> "Sets | None":
        """The sets of another revision among which the condition's is; None if it is chosen here.

        The whole choice is made there: also which neurons are drawn at random, and what a matched
        control is matched by.
        """
        return self.references.get(str(followed_from(self.conditions, name)))

    def unlabelled(self) -> list[tuple[str, str]]:
        """Conditions that have no neuron, since none has the label, and why.

        Controls of such a condition are among them.
        """
        return [(name, why) for name in self.conditions if (why := self._why_unlabelled(name))]

    def _why_unlabelled(self, name: str) -> str:
        """Why nobody has the label that a condition needs; empty where that is not so, or open."""
        source = labelled(self.conditions, name)
        spec = self.conditions[source].spec.neurons if source is not None else None
        if source is None or not isinstance(spec, LabelledSet) or spec.label not in self.labels:
            return ""
        if self._neurons(source, None):
            return ""
        analysis = "routing" if spec.label in ROLES else "firing"
        return f"no neuron of {_in_words(spec.layers)} is labelled {spec.label} by {analysis}"

    def all(self) -> list[Condition]:
        """Every condition that can be known, once for each layer group and seed, in their order.

        Those that no neuron has the label of are left out.

        Raises:
            UserError: a set is empty, or cannot be made.
        """
        return [
            self.condition(name, seed)
            for name, concrete in self.conditions.items()
            if self.known(name) and not self._why_unlabelled(name)
            for seed in seeds_of(concrete.spec, self.job.seeds)
        ]

    def condition(self, name: str, seed: int | None = None) -> Condition:
        """A condition that can be known, with its neurons.

        Raises:
            UserError: the set is empty, or cannot be made.
        """
        concrete = self.conditions[name]
        spec = concrete.spec
        chosen = self._neurons(name, seed)
        if spec.operation is not None and not chosen:
            raise UserError(
                f"condition.{concrete.family}.neurons: no neuron of model "
                f"{self.checkpoint.model!r} is chosen ({self.checkpoint.num_neurons} per layer); "
                "allow a larger fraction or other layers"
            )
        return Condition(
            name=name,
            seed=seed,
            operation=spec.operation,
            neurons=chosen,
            values=put_in(spec.operation, spec.value, self.neurons, chosen),
            allow_unchanged=spec.allow_unchanged,
            family=concrete.family if concrete.layers else "",
            layers=concrete.layers,
        )

    def balances(self, names: Sequence[str]) -> pd.DataFrame:
        """How like their targets the moment-matched ones among some conditions are.

        Columns of the table ``balance``; empty where none is matched by moments.
        """
        parts = list(self._balances(names))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _balances(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        for name in dict.fromkeys(names):
            spec = self.conditions[name].spec.neurons
            census = (self.reference(name) or self).neurons
            if isinstance(spec, MatchedSet) and spec.by == "moments" and census is not None:
                control, target = self.condition(name), self.condition(spec.match)
                chosen = dict(control.neurons), dict(target.neurons)
                rows = balance(census, chosen[1], chosen[0], spec.moments)
                keys = {"cell_key": control.key, "condition_key": control.key}
                yield rows.assign(**keys, target_key=target.key)

    def _neurons(self, name: str, seed: int | None) -> LayerNeurons:
        # Random controls ask for the set that they match once for each seed.
        if (name, seed) not in self._chosen:
            try:
                self._chosen[name, seed] = self._choose(name, seed)
            except UserError as error:
                if str(error).startswith("condition."):  # of the one that this one matches
                    raise
                key = f"condition.{self.conditions[name].family}.neurons"
                raise UserError(f"{key}: {error}") from None
        return self._chosen[name, seed]

    def _choose(self, name: str, seed: int | None) -> LayerNeurons:
        reference = self.reference(name)
        if reference is not None:
            return reference._neurons(name, seed)
        spec = self.conditions[name].spec.neurons
        if isinstance(spec, ExplicitSet):
            return {layer: tuple(sorted(chosen)) for layer, chosen in sorted(spec.neurons.items())}
        if isinstance(spec, WholeLayers):
            return dict.fromkeys(self._layers(spec.layers), tuple(range(self._num_neurons)))
        if isinstance(spec, LabelledSet):
            members = self.labels[spec.label]
            layers = self._layers(spec.layers)
            return {layer: members[layer] for layer in layers if layer in members}
        if isinstance(spec, ByStatistic) and self.neurons is not None:
            layers = self._layers(spec.layers)
            return by_statistic(self.neurons, spec.statistic, spec.kind, spec.fraction, layers)
        if isinstance(spec, MatchedSet) and self.neurons is not None:
            target = self._neurons(spec.match, None)
            if spec.by == "moments":
                return nearest_by_moments(self.neurons, target, spec.moments)
            return bottom_of_others(self.neurons, spec.statistic, self.matches[name], target)
        if isinstance(spec, RandomSet) and seed is not None:
            fingerprint = self.checkpoint.fingerprint
            return random_set(self._random_counts(spec), self._num_neurons, fingerprint, seed)
        return {}

    def _random_counts(self, spec: RandomSet) -> dict[int, int]:
        if spec.match is not None:
            matched = self._neurons(spec.match, None)
            return {layer: len(chosen) for layer, chosen in matched.items()}
        count = max(round((spec.fraction or 0) * self._num_neurons), 1)
        return dict.fromkeys(self._layers(spec.layers), count)

    @property
    def _num_neurons(self) -> int:
        return self.checkpoint.num_neurons

    def _layers(self, layers: Layers) -> Sequence[int]:
        if layers == "all":
            return range(self.checkpoint.num_layers)
        assert isinstance(layers, list), "groups are spelt out before"
        return sorted(layers)


def _in_words(layers: Layers) -> str:
    """Layers of a condition on one model: all, or a list."""
    if not isinstance(layers, list):
        return "the model"
    first, last = min(layers), max(layers)
    if first == last:
        return f"layer {first}"
    if len(layers) == last - first + 1:
        return f"layers {first}-{last}"
    return f"layers {', '.join(map(str, sorted(layers)))}"
