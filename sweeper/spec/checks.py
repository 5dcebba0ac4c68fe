"""Rules between the parts of a job, checked once each part is valid by itself."""

from collections.abc import Iterator, Mapping

from sweeper.spec.condition import ByStatistic, ConditionSpec, RandomSet
from sweeper.spec.corpus import CensusSpec, CorpusSpec
from sweeper.spec.task import PerplexitySpec, TaskSpec
from sweeper.spec.wording import hint, listed

Conditions = Mapping[str, ConditionSpec]


def contradictions(
    condition: Conditions,
    suite: Mapping[str, TaskSpec],
    corpus: Mapping[str, CorpusSpec],
    census: CensusSpec | None,
) -> list[str]:
    """Say in one line each what does not fit together."""
    return [
        *_reserved(condition, suite),
        *_corpora(suite, corpus, census),
        *_baselines(condition),
        *_neurons(condition),
        *_census(condition, census),
        *_controls(condition),
    ]


def _reserved(condition: Conditions, suite: Mapping[str, TaskSpec]) -> Iterator[str]:
    """The census of a checkpoint is a cell beside the tasks' and conditions', under this name."""
    for group, names in (("condition", condition), ("suite", suite)):
        if "census" in names:
            yield f"{group}.census: the name census is taken; choose another"


def _corpora(
    suite: Mapping[str, TaskSpec], corpus: Mapping[str, CorpusSpec], census: CensusSpec | None
) -> Iterator[str]:
    wanted = {"census.corpus": census.corpus} if census else {}
    for name, task in suite.items():
        if isinstance(task, PerplexitySpec):
            wanted[f"suite.{name}.corpus"] = task.corpus
    for key, name in wanted.items():
        if name not in corpus:
            yield f"{key}: no corpus is named {name!r}; {listed(corpus)}{hint(name, corpus)}"


def _baselines(condition: Conditions) -> Iterator[str]:
    names = [name for name, spec in condition.items() if spec.operation is None]
    if len(names) != 1:
        found = " and ".join(names) if names else "none"
        yield f"condition: exactly one baseline (operation null) is needed; found {found}"


def _neurons(condition: Conditions) -> Iterator[str]:
    for name, spec in condition.items():
        key = f"condition.{name}.neurons"
        if spec.operation is None and spec.neurons is not None:
            yield f"{key}: given, but the baseline (operation null) allows none"
        if spec.operation is not None and spec.neurons is None:
            yield f"{key}: missing; operation {spec.operation} needs a set of neurons"


def _census(condition: Conditions, census: CensusSpec | None) -> Iterator[str]:
    if census is not None:
        return
    for name, spec in condition.items():
        if isinstance(spec.neurons, ByStatistic):
            yield (
                f"census: missing; condition.{name}.neurons chooses by the statistic "
                f"{spec.neurons.statistic}, so census.corpus is needed"
            )


def _controls(condition: Conditions) -> Iterator[str]:
    """Controls of what is there, with the same operation, and not of another random set."""
    chosen = {name: spec for name, spec in condition.items() if spec.neurons is not None}
    allowed = [name for name, spec in chosen.items() if not isinstance(spec.neurons, RandomSet)]
    for name, spec in condition.items():
        if not isinstance(spec.neurons, RandomSet) or spec.neurons.match is None:
            continue
        target, key = spec.neurons.match, f"condition.{name}.neurons.match"
        if target not in allowed:
            yield (
                f"{key}: {target!r} is not allowed; a condition of this job is needed that "
                f"chooses its neurons itself; {listed(allowed)}{hint(target, allowed)}"
            )
        elif chosen[target].operation != spec.operation:
            yield (
                f"condition.{name}.operation: {spec.operation} is not allowed; a control does "
                f"what its match {target} does: {chosen[target].operation}"
            )
