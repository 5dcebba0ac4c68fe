"""The search for a matched set, with a model that is a formula."""

import numpy as np
import pandas as pd
import pytest
from records_factory import condition, unit
from scipy import stats

from sweeper.neurons.select import by_statistic
from sweeper.run.match_work import find_match
from sweeper.score.texts import Scores

LENGTHS = np.array([40, 25, 31, 40, 12])
TARGET = {0: (98, 99), 1: (99,)}


def census() -> pd.DataFrame:
    layer, neuron = np.divmod(np.arange(200), 100)
    return pd.DataFrame({"layer": layer, "neuron": neuron, "wd": neuron / 100.0, "mean": 0.25})


class Formula:
    """A model whose windows lose ``rate`` nats per token and low neuron, ``dear`` per high one."""

    def __init__(self, rate=0.001, dear=0.02, spread=0.0):
        self.rate, self.dear, self.seen = rate, dear, []
        self.window = 1 + spread * np.linspace(-1, 1, len(LENGTHS))

    def __call__(self, conditions):
        self.seen.append(list(conditions))
        return [self.scores(c) for c in conditions]

    def scores(self, clamped):
        low = sum(n < 98 for chosen in clamped.neurons.values() for n in chosen)
        loss = self.rate * low + self.dear * (clamped.num_neurons - low)
        each = 3.0 + loss * self.window
        values = [np.full(n, -x, np.float32) for n, x in zip(LENGTHS, each, strict=True)]
        return Scores(logprobs=values, greedy=None, values_seen=1, values_changed=1)


def match(formula, **changes) -> pd.DataFrame:
    neurons = {"kind": "matched", "match": "top", "by": "perplexity", "task": "p", **changes}
    spec = {"operation": "zero", "neurons": neurons}
    asked = unit("u", match={"spec": spec, "census": "c", "attempt": "a"})
    return find_match(asked, census(), condition(operation="zero", neurons=TARGET), formula)


def test_the_chosen_set_does_what_the_target_does():
    formula = Formula()
    table = match(formula)
    assert table["reached"].all()
    assert set(table["outcome"]) == {"matched"}
    (chosen,) = table[table["chosen"]].to_dict("records")
    # 3 dear neurons lose 0.06: as much as 60 cheap ones, which is 30 in each of two layers.
    assert chosen["target_increase"] == pytest.approx(0.06, rel=1e-4)
    assert 59 <= chosen["num_neurons"] <= 61
    assert chosen["increase"] == pytest.approx(0.001 * chosen["num_neurons"], rel=1e-4)
    assert chosen["difference"] == pytest.approx(chosen["increase"] - 0.06, abs=1e-5)
    first = table.iloc[0]
    assert (first["fraction"], first["num_neurons"], first["increase"]) == (0, 0, 0)
    # Every candidate is the bottom of its layer by the percentile, as "kind: bottom" would be.
    for row in table.iloc[1:].itertuples():
        bottom = by_statistic(census(), "wd", "bottom", row.fraction, [0, 1])
        assert row.num_neurons == sum(len(set(n) - set(TARGET[i])) for i, n in bottom.items())
    assert [c.operation for c in formula.seen[0]] == [None, "zero"]
    assert all(len(asked) == 4 for asked in formula.seen[1:])


def test_intervals_are_paired_over_windows():
    formula = Formula(spread=0.5)
    table = match(formula)
    counts = LENGTHS.astype(float)
    for row in table.iloc[1:].itertuples():
        loss = 0.001 * row.num_neurons * formula.window * counts
        mean, half = by_hand(loss, counts)
        assert (row.increase, row.low, row.high) == pytest.approx(
            (mean, mean - half, mean + half), rel=1e-3
        )
        mean, half = by_hand(loss - 0.06 * formula.window * counts, counts)
        found = row.difference, row.difference_low, row.difference_high
        if row.num_neurons == 60:  # what the target does, in every window
            assert np.isnan(found[1:]).all()
        else:
            assert found == pytest.approx((mean, mean - half, mean + half), rel=1e-2, abs=2e-6)


def by_hand(sums, counts) -> tuple[float, float]:
    ratio = sums.sum() / counts.sum()
    rest = sums - ratio * counts
    error = np.sqrt(len(sums) / (len(sums) - 1) * (rest**2).sum()) / counts.sum()
    return ratio, stats.t.ppf(0.975, len(sums) - 1) * error


def test_a_pool_that_cannot_reach_the_target_is_recorded():
    table = match(Formula(rate=0.0001))
    assert not table["reached"].any()
    assert set(table["outcome"]) == {"out of reach"}
    nearest = table[table["chosen"]].iloc[0]
    assert nearest["fraction"] == 1.0
    # Strictly below the maximum of each layer, and not of the target.
    assert nearest["num_neurons"] == 98 + 99


def test_a_target_that_does_nothing_has_no_match():
    for dear in (0.0, -0.01):
        formula = Formula(dear=dear)
        table = match(formula)
        assert table["outcome"].tolist() == ["no increase"]
        assert not table["reached"].any()
        assert len(formula.seen) == 1
    # Up in some windows, down in others: an interval that holds 0.
    mixed = Formula(spread=8.0)
    assert set(match(mixed)["outcome"]) == {"no increase"}


def test_a_tolerance_finer_than_a_neuron_in_each_layer_is_too_coarse():
    table = match(Formula(dear=0.02033), tolerance=1e-4)
    assert set(table["outcome"]) == {"too coarse"}
    nearest = table[table["chosen"]].iloc[0]
    assert abs(nearest["difference"]) == table["difference"].abs().min()


def test_numbers_are_put_in_where_the_operation_wants_them():
    formula = Formula()
    spec = {"operation": "mean", "neurons": {"kind": "matched", "match": "top", "by": "perplexity"}}
    asked = unit("u", match={"spec": spec, "census": "c", "attempt": "a"})
    target = condition(operation="mean", neurons=TARGET, values={0: (0.25, 0.25), 1: (0.25,)})
    find_match(asked, census(), target, formula)
    candidate = formula.seen[1][0]
    assert candidate.operation == "mean"
    assert {n: len(v) for n, v in candidate.values.items()} == {
        n: len(v) for n, v in candidate.neurons.items()
    }
    assert {value for values in candidate.values.values() for value in values} == {0.25}


def test_a_number_that_is_none_is_an_error():
    class Broken(Formula):
        def scores(self, clamped):
            found = super().scores(clamped)
            if clamped.num_neurons > 50:
                found.logprobs[0][0] = np.nan
            return found

    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        match(Broken())
