"""The firing census by layer against counting by hand and against the census' own functions."""

import math

import numpy as np
import pandas as pd
import pytest
from firing_frames import firing_rows, ngram_rows

from sweeper.aggregate.firing import (
    DETECTOR_COLUMNS,
    EXPLAINED_COLUMNS,
    FIRING_COLUMNS,
    bins,
    chance_information,
    detectors_by_layer,
    explained_by_layer,
    firing_by_layer,
    positional_by_layer,
    positional_neurons,
)
from sweeper.neurons.positional import mutual_information


def test_dead_neurons_and_the_frequency_of_the_others() -> None:
    columns = ["corpus", "layer", "neuron", "active", "num_tokens", "num_windows"]
    rows = [
        ("b", 0, 0, 0, 100, 4),
        ("b", 0, 1, 10, 100, 4),
        ("b", 0, 2, 30, 100, 4),
        ("b", 1, 0, 0, 100, 4),
        ("b", 1, 1, 0, 100, 4),
        ("a", 0, 0, 5, 50, 2),
        ("a", 0, 1, 0, 50, 2),
        ("a", 0, 2, 0, 50, 2),
        ("none", 0, 0, 0, 0, 0),
    ]
    found = firing_by_layer(pd.DataFrame(rows, columns=columns))
    assert list(found.columns) == FIRING_COLUMNS
    known = found.set_index(["corpus", "layer"])
    # The order of the rows is that of layers, of the corpora as they come.
    assert known.index.tolist() == [("b", 0), ("a", 0), ("b", 1)]
    assert known.loc[("b", 0), ["num_tokens", "num_windows", "num_neurons", "dead"]].tolist() == [
        *(100, 4, 3, 1)
    ]
    assert known.loc[("b", 0), "frequency"] == pytest.approx((0.1 + 0.3) / 2)
    assert known.loc[("a", 0), ["dead", "frequency"]].tolist() == [2, 0.1]
    assert known.loc[("b", 1), "dead"] == 2
    assert math.isnan(known.loc[("b", 1), "frequency"])


def test_corpora_may_be_categories() -> None:
    rows = firing_rows(3, 20)
    words = rows.astype({"corpus": "category"})
    pd.testing.assert_frame_equal(firing_by_layer(rows), firing_by_layer(words))


def test_positional_neurons_are_those_of_all_corpora() -> None:
    columns = ["corpus", "layer", "neuron", "information", "positional", "type", "strong"]
    rows = [
        ("a", 0, 0, 0.9, True, "other", False),
        ("all", 0, 0, 0.3, True, "oscillatory", True),
        ("all", 0, 1, 0.2, True, "oscillatory", True),
        ("all", 0, 2, 0.4, True, "oscillatory", False),
        ("all", 1, 0, 0.01, False, None, None),
        ("all", 2, 0, None, False, None, None),
        ("all", 2, 5, 0.06, True, "other", False),
    ]
    neurons = positional_neurons(pd.DataFrame(rows, columns=columns))
    assert neurons[["layer", "neuron"]].to_numpy().tolist() == [[0, 0], [0, 1], [0, 2], [2, 5]]
    found = positional_by_layer(neurons)
    assert found.to_numpy().tolist() == [
        [0, "oscillatory", False, 1, 0.4],
        [0, "oscillatory", True, 2, 0.3],
        [2, "other", False, 1, 0.06],
    ]


@pytest.mark.parametrize(
    ("most", "names"),
    [
        (50, ["1", "2–5", "6–50", "more than 50"]),
        (80, ["1", "2–5", "6–50", "more than 50"]),
        (20, ["1", "2–5", "6–20", "more than 20"]),
        (5, ["1", "2–5", "more than 5"]),
        (2, ["1", "2", "more than 2"]),
        (1, ["1", "more than 1"]),
    ],
)
def test_groups_end_where_the_job_stops_counting(most: int, names: list[str]) -> None:
    assert bins(most) == names


def test_neurons_are_grouped_by_the_ngrams_that_explain_them() -> None:
    values = [1, 1, 2, 5, 6, 50, 51, None, None]
    rows = pd.DataFrame({"layer": 1, "n": 2, "to_cover": pd.array(values, "Int32")})
    found = explained_by_layer(rows, range(3), 50)
    assert list(found.columns) == EXPLAINED_COLUMNS
    assert found["bin"].tolist() == bins(50) * 3
    assert found["layer"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found["num_neurons"].tolist() == [0] * 4 + [2, 2, 2, 3] + [0] * 4
    # As pandas gives a column with nulls that was read from Arrow.
    again = explained_by_layer(rows.assign(to_cover=[v or np.nan for v in values]), range(3), 50)
    pd.testing.assert_frame_equal(found, again)


def test_every_neuron_is_in_one_group() -> None:
    rows, _, _ = ngram_rows(6, 50)
    found = explained_by_layer(rows, range(6), 50)
    sums = found.groupby(["n", "layer"])["num_neurons"].sum()
    assert set(sums) == {50}
    for (n, layer), part in rows.groupby(["n", "layer"]):
        by_hand = [
            int((part["to_cover"] == 1).sum()),
            int(part["to_cover"].between(2, 5).sum()),
            int(part["to_cover"].between(6, 50).sum()),
        ]
        here = found[(found["n"] == n) & (found["layer"] == layer)]
        assert here["num_neurons"].tolist()[:3] == by_hand


def test_ensembles_by_brute_force() -> None:
    rows, detected, _ = ngram_rows(8, 60)
    # Of few tokens, so that layers have some in common.
    detected["tokens"] = [[token % 9 for token in tokens] for tokens in detected["tokens"]]
    found = detectors_by_layer(rows, detected, range(8))
    assert list(found.columns) == DETECTOR_COLUMNS
    for n, here in found.groupby("n"):
        of_n = detected[detected["n"] == n]
        seen: set[tuple[int, ...]] = set()
        before: set[tuple[int, ...]] = set()
        for layer in range(8):
            ngrams = {tuple(tokens) for tokens in of_n[of_n["layer"] == layer]["tokens"]}
            row = here[here["layer"] == layer].iloc[0]
            assert (row["covered"], row["cumulative"]) == (len(ngrams), len(ngrams | seen))
            assert row["new"] == len(ngrams - seen)
            assert row["new_to_previous"] == len(ngrams - before)
            seen, before = seen | ngrams, ngrams
    assert found["new_to_previous"].ne(found["covered"]).any()


def test_detectors_are_counted_and_those_that_suppress() -> None:
    columns = ["layer", "neuron", "n", "detector", "suppresses"]
    rows = [
        (0, 0, 1, True, True),
        (0, 1, 1, True, False),
        (0, 2, 1, True, True),
        (0, 3, 1, False, None),
        (2, 0, 1, True, None),
        (0, 0, 3, True, None),
    ]
    nothing = pd.DataFrame({"layer": [], "n": [], "tokens": []})
    found = detectors_by_layer(pd.DataFrame(rows, columns=columns), nothing, range(3))
    counts = found[["n", "layer", "num_detectors", "num_told", "num_suppressing", "cumulative"]]
    assert counts.to_numpy().tolist() == [
        [1, 0, 3, 3, 2, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 2, 1, 0, 0, 0],
        [3, 0, 1, 0, 0, 0],
        [3, 1, 0, 0, 0, 0],
        [3, 2, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("windows", [16, 256])
@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_information_by_chance(windows: int, rate: float) -> None:
    rng = np.random.default_rng(windows)
    frequency_FT = rng.binomial(windows, rate, (200, 512)) / windows
    mean = float(mutual_information(frequency_FT).mean())
    assert mean == pytest.approx(chance_information(windows), rel=0.08)
    rare = rng.binomial(windows, 0.2 / windows, (200, 512)) / windows
    assert float(mutual_information(rare).mean()) < chance_information(windows)


def test_nothing_gives_frames_without_rows() -> None:
    nothing = pd.DataFrame()
    assert list(firing_by_layer(nothing).columns) == FIRING_COLUMNS
    assert positional_by_layer(positional_neurons(nothing)).empty
    assert list(explained_by_layer(nothing, range(3), 50).columns) == EXPLAINED_COLUMNS
    assert list(detectors_by_layer(nothing, nothing, range(3)).columns) == DETECTOR_COLUMNS
    assert math.isnan(chance_information(0))
