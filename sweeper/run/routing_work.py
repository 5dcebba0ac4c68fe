"""What a worker does for a routing analysis: all layers over one text."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.models.loading import LoadedModel
from sweeper.neurons.routing.findings import Row, Testing, Text, findings, threshold_row
from sweeper.neurons.routing.passes import (
    Group,
    LayerTokens,
    Maps,
    first_windows,
    fit_maps,
    groups,
    keep_tokens,
)
from sweeper.neurons.routing.prediction import LEAST_TOKENS, predictions
from sweeper.neurons.routing.probe import probe
from sweeper.neurons.routing.roles import Regimes, Roles, find_roles
from sweeper.records import Unit, content_hash
from sweeper.run.census_work import census_text
from sweeper.run.found import Found
from sweeper.score import tokens
from sweeper.score.memory import TokenBudget
from sweeper.spec.routing import RoutingSpec
from sweeper.store.analysis_schemas import ANALYSES

TABLES = (
    *("routing_layers", "routing_neurons", "routing_levels", "routing_patterns"),
    *("routing_predictions", "routing_thresholds", "routing_splits"),
)

_log = logging.getLogger("sweeper")


def routing(model: LoadedModel, unit: Unit, budget: TokenBudget, store: str) -> Found:
    """Compute a unit of kind ``routing``.

    Two passes over the text for all layers and a third over its first tokens for the predictors,
    or that for one group of layers after the other where memory does not hold all
    (``neurons.routing.passes``).

    Args:
        model: the loaded model, without clamps.
        unit: of one cell.
        budget: most positions in one forward pass.
        store: address of the store; nothing in it is needed.

    Raises:
        StaleDataError: the text is another one than the driver's.
        ValueError: the text has no window.
        FloatingPointError: an MLP's input or output is NaN or infinite.
    """
    spec = RoutingSpec.model_validate(unit.task)
    analysis = _Analysis(model, _windows(model, unit, spec), spec, unit.data_fingerprint)
    for group in analysis.groups():
        analysis.add(group, budget)
    return Found(
        tables={name: _frame(name, analysis.tables[name]) for name in TABLES},
        num_items=len(model.sites),
        num_tokens=analysis.num_tokens,
    )


def _windows(model: LoadedModel, unit: Unit, spec: RoutingSpec) -> list[tokens.Row]:
    """The windows of text that a routing analysis reads, the last one possibly shorter.

    Raises:
        StaleDataError: the text is another one than the driver's.
        ValueError: the text has no window.
    """
    text, _ = census_text(unit)
    length = min(spec.length, model.checkpoint.context)
    rows = tokens.windows(model.tokenizer, text, length, length, spec.windows)
    if not rows:
        raise ValueError("the text of the routing analysis has no window of at least 2 tokens")
    return rows


def _frame(table: str, rows: list[Row]) -> pd.DataFrame:
    """Rows with all columns of their table, also where there are none."""
    names = [name for name in ANALYSES[table].names if name not in ("cell_key", "attempt")]
    return pd.DataFrame(rows, columns=names)


@dataclass(frozen=True, slots=True)
class _Predictors:
    """What is known of a layer's first tokens before their activations are looked at."""

    neurons: Sequence[int]
    """K of them, which predict."""
    fires_NK: NDArray[np.bool_]
    norms_N: NDArray[np.float64]
    """|MLP output|."""

    @classmethod
    def of(cls, kept: LayerTokens, roles: Roles, num_tokens: int) -> "_Predictors":
        """Under the job's own threshold, the first of those that were looked at."""
        neurons = roles.routing_neurons
        fires_NK = kept.fires.of(neurons)[:, :num_tokens].T
        return cls(neurons, fires_NK.copy(), kept.output_norms[:num_tokens].copy())


class _Analysis:
    """Collects the rows of all tables, one group of layers after the other."""

    def __init__(
        self, model: LoadedModel, rows: Sequence[tokens.Row], spec: RoutingSpec, text: str
    ) -> None:
        self.tables: dict[str, list[Row]] = defaultdict(list)
        self.num_tokens = 0
        self._model, self._rows, self._spec = model, rows, spec
        self._drawn_for = {"checkpoint": model.checkpoint.fingerprint, "corpus": text}
        self._text = Text.of(rows, lambda token: str(model.tokenizer.decode([token])))
        self._fitted = first_windows(rows, spec.fit_tokens)
        self._probed = first_windows(rows, spec.predicted_tokens) if spec.predicted_tokens else 0
        if spec.predicted_tokens and self._size(self._probed) < LEAST_TOKENS:
            _log.warning(
                "routing: %d tokens are too few to predict nonlinearity; at least %d are needed",
                self._size(self._probed),
                LEAST_TOKENS,
            )
            self._probed = 0

    def groups(self) -> Iterator[Group]:
        """Layers that memory holds together."""
        spec = self._spec
        others = [limit for limit in spec.thresholds if limit != spec.threshold]
        probed = self._size(self._probed)
        sizes = len(self._text.tokens), (spec.threshold, *others), probed
        return groups(self._model.sites, *sizes)

    def add(self, group: Group, budget: TokenBudget) -> None:
        """Analyse some layers."""
        spec = self._spec
        maps = fit_maps(self._model, group.sites, self._rows, budget, spec.fit_tokens)
        self.num_tokens += self._size(self._fitted)
        own: dict[int, Roles] = {}
        known: dict[int, _Predictors] = {}
        of_thresholds: list[Row] = []
        for thresholds in group.thresholds:
            for kept in keep_tokens(self._model, self._rows, budget, maps, thresholds, spec.fires):
                regimes = Regimes.of(kept.residuals)
                for threshold, fires in kept.bits.items():
                    roles = find_roles(fires, regimes)
                    if threshold == spec.threshold:
                        own[kept.layer] = roles
                        known[kept.layer] = _Predictors.of(kept, roles, self._size(self._probed))
                        self._take(findings(kept, roles, self._text, self._testing(kept.layer)))
                    if threshold in spec.thresholds:
                        row = threshold_row(threshold, fires, roles, own[kept.layer])
                        of_thresholds.append({"layer": kept.layer, **row})
            self.num_tokens += len(self._text.tokens)
        self._take({"routing_thresholds": _sorted(of_thresholds, "layer", "threshold")})
        if self._probed:
            self._predict(maps, known, budget)

    def _predict(
        self,
        maps: Maps,
        known: Mapping[int, _Predictors],
        budget: TokenBudget,
    ) -> None:
        chosen = {layer: own.neurons for layer, own in known.items()}
        rows = self._rows[: self._probed]
        probed = probe(self._model, rows, budget, maps, chosen, self._spec.fires)
        self.num_tokens += self._size(self._probed)
        for layer, own in known.items():
            one = probed.pop(layer)
            table = predictions(
                one.values.double().numpy(),
                own.fires_NK,
                one.inputs.double().numpy(),
                one.deltas.double().numpy(),
                own.norms_N,
                self._testing(layer).seed,
            )
            table = table.assign(layer=layer, num_tokens=len(one.inputs))
            self._take({"routing_predictions": table.to_dict("records")})

    def _testing(self, layer: int) -> Testing:
        """Draws are the same whatever else the job says of the analysis."""
        seed = int(content_hash({**self._drawn_for, "layer": layer})[:8], 16)
        return Testing(splits=self._spec.splits, resamples=self._spec.resamples, seed=seed)

    def _take(self, tables: Mapping[str, list[dict[Any, Any]]]) -> None:
        for name, rows in tables.items():
            self.tables[name] += rows

    def _size(self, num_windows: int) -> int:
        """Tokens of so many of the first windows."""
        return sum(map(len, self._rows[:num_windows]))


def _sorted(rows: list[Row], *by: str) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(row[name] for name in by))
