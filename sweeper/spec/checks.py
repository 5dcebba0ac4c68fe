"""Rules between the parts of a job, checked once each part is valid by itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from sweeper.records import ALL_CORPORA
from sweeper.spec.condition import (
    ByStatistic,
    ConditionSpec,
    LabelledSet,
    MatchedSet,
    NgramLabel,
    RandomSet,
    RoutingLabel,
    WholeLayers,
)
from sweeper.spec.corpus import CensusSpec, CorpusSpec
from sweeper.spec.firing import FiringSpec
from sweeper.spec.profile import ProfileSpec
from sweeper.spec.routing import RoutingSpec
from sweeper.spec.task import PerplexitySpec, TaskSpec, WindowsSpec
from sweeper.spec.wording import hint, listed

Conditions = Mapping[str, ConditionSpec]

TAKEN = ("census", "profile", "drift", "firing", "ngrams", "routing", "removal")
"""Names of a checkpoint's cells beside those of its tasks and conditions."""

DETECTS = {label: n for n, label in enumerate(get_args(NgramLabel), start=1)}
"""Label of a detector -> length of its n-grams."""

ROUTES = get_args(RoutingLabel)
"""Labels that the routing analysis gives."""


def contradictions(
    condition: Conditions,
    suite: Mapping[str, TaskSpec],
    corpus: Mapping[str, CorpusSpec],
    census: CensusSpec | None,
    profiles: ProfileSpec | None,
    firing: FiringSpec | None,
    routing: RoutingSpec | None,
) -> list[str]:
    """Say in one line each what does not fit together."""
    return [
        *_reserved(condition, suite),
        *_corpora(suite, corpus, census, firing, routing),
        *_baselines(condition),
        *_neurons(condition),
        *_values(condition),
        *_census(condition, census),
        *_profiles(profiles, census),
        *_labels(condition, firing, routing),
        *_controls(condition),
        *_matches(condition, suite),
    ]


def _reserved(condition: Conditions, suite: Mapping[str, TaskSpec]) -> Iterator[str]:
    for group, names in (("condition", condition), ("suite", suite)):
        for name in TAKEN:
            if name in names:
                yield f"{group}.{name}: the name {name} is taken; choose another"


def _corpora(
    suite: Mapping[str, TaskSpec],
    corpus: Mapping[str, CorpusSpec],
    census: CensusSpec | None,
    firing: FiringSpec | None,
    routing: RoutingSpec | None,
) -> Iterator[str]:
    wanted = [("census.corpus", census.corpus)] if census else []
    wanted += [("firing.corpora", name) for name in firing.corpora] if firing else []
    wanted += [("routing.corpus", routing.corpus)] if routing else []
    for name, task in suite.items():
        if isinstance(task, WindowsSpec):
            wanted.append((f"suite.{name}.corpus", task.corpus))
    for key, name in wanted:
        if name not in corpus:
            yield f"{key}: no corpus is named {name!r}; {listed(corpus)}{hint(name, corpus)}"
    if firing is not None and ALL_CORPORA in firing.corpora:
        yield (
            f"firing.corpora: {ALL_CORPORA!r} is not allowed; it stands for all corpora together "
            "in the results; rename that corpus"
        )


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
        if (
            spec.operation == "remove_mlp"
            and spec.neurons is not None
            and not isinstance(spec.neurons, WholeLayers)
        ):
            yield (
                f"{key}.kind: {spec.neurons.kind} is not allowed; remove_mlp takes whole layers: "
                "allowed is all"
            )


def _values(condition: Conditions) -> Iterator[str]:
    for name, spec in condition.items():
        key = f"condition.{name}.value"
        if spec.operation == "set" and spec.value is None:
            yield f"{key}: missing; operation set needs the number that it puts in"
        if spec.operation != "set" and spec.value is not None:
            yield f"{key}: {spec.value:g} is not allowed; only operation set takes a value"


def _census(condition: Conditions, census: CensusSpec | None) -> Iterator[str]:
    if census is not None:
        yield from _pairs(condition, census)
        return
    for name, spec in condition.items():
        neurons = spec.neurons
        if isinstance(neurons, ByStatistic):
            why = f"condition.{name}.neurons chooses by the statistic {neurons.statistic}"
        elif isinstance(neurons, MatchedSet):
            why = f"condition.{name}.neurons is matched by statistics"
        elif spec.operation == "mean":
            why = f"condition.{name}.operation puts in the neurons' means"
        else:
            continue
        yield f"census: missing; {why}, so census.corpus is needed"


def _pairs(condition: Conditions, census: CensusSpec) -> Iterator[str]:
    """The mapping difficulty is measured on pairs of tokens."""
    for name, spec in condition.items():
        if census.pairs == 0 and "md" in _statistics(spec):
            yield f"census.pairs: 0 is not allowed; condition.{name}.neurons needs the statistic md"


def _profiles(profiles: ProfileSpec | None, census: CensusSpec | None) -> Iterator[str]:
    if profiles is None:
        return
    if census is None:
        yield "census: missing; profiles are of the census' neurons, so census.corpus is needed"
    elif profiles.statistic == "md" and census.pairs == 0:
        yield "census.pairs: 0 is not allowed; profiles.statistic needs the statistic md"


def _labels(
    condition: Conditions, firing: FiringSpec | None, routing: RoutingSpec | None
) -> Iterator[str]:
    """Labels need the analysis that gives them."""
    for name, spec in condition.items():
        if not isinstance(spec.neurons, LabelledSet):
            continue
        label = spec.neurons.label
        why = f"condition.{name}.neurons chooses by the label {label}"
        if label in ROUTES:
            if routing is None:
                yield f"routing: missing; {why}, so routing.corpus is needed"
        elif firing is None:
            yield f"firing: missing; {why}, so firing.corpora is needed"
        elif label in DETECTS and DETECTS[label] not in firing.ngrams:
            yield f"firing.ngrams: {firing.ngrams} lacks {DETECTS[label]}; {why}"


def _statistics(spec: ConditionSpec) -> Sequence[str]:
    """Statistics of the census that a condition's neurons are chosen by."""
    if isinstance(spec.neurons, MatchedSet) and spec.neurons.by == "moments":
        return spec.neurons.moments
    if isinstance(spec.neurons, ByStatistic | MatchedSet):
        return [spec.neurons.statistic]
    return []


def _controls(condition: Conditions) -> Iterator[str]:
    """Controls of what is there, with the same operation, and none of a random set."""
    chosen = {name: spec for name, spec in condition.items() if spec.neurons is not None}
    not_random = [n for n, spec in chosen.items() if not isinstance(spec.neurons, RandomSet)]
    own = [n for n in not_random if not isinstance(chosen[n].neurons, MatchedSet)]
    for name, spec in condition.items():
        if not isinstance(spec.neurons, RandomSet | MatchedSet) or spec.neurons.match is None:
            continue
        allowed = not_random if isinstance(spec.neurons, RandomSet) else own
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
        elif spec.operation == "set" and chosen[target].value != spec.value:
            yield (
                f"condition.{name}.value: {spec.value} is not allowed; a control does what its "
                f"match {target} does: {chosen[target].value}"
            )


def _matches(condition: Conditions, suite: Mapping[str, TaskSpec]) -> Iterator[str]:
    """A match by perplexity needs a text that perplexity is measured on."""
    texts = [name for name, task in suite.items() if isinstance(task, PerplexitySpec)]
    for name, spec in condition.items():
        if not isinstance(spec.neurons, MatchedSet):
            continue
        task, key = spec.neurons.task, f"condition.{name}.neurons.task"
        if spec.neurons.by == "moments" and task is not None:
            yield f"{key}: {task!r} is not allowed; a match by moments reads no text"
        if spec.neurons.by == "perplexity" and task is None:
            yield f"{key}: missing; a perplexity task of the suite is needed; {listed(texts)}"
        elif spec.neurons.by == "perplexity" and task not in texts:
            yield (
                f"{key}: {task!r} is not allowed; a perplexity task of the suite is needed; "
                f"{listed(texts)}{hint(task, texts)}"
            )
