import numpy as np
import pandas as pd
import pytest
from study_frames import MODEL, PROFILED, make_neurons, make_pairs, make_tokens

from sweeper.report.figure_neurons import MAX_NEURONS, MAX_POINTS, first_neurons, scatter_chart
from sweeper.report.figure_tokens import readable, token_chart
from sweeper.report.figures import specification
from sweeper.report.neurons import normalised, separated_tokens, sign_shares

# Twenty pairs, the first two of similar inputs.
DX = [1.0, 2.0, *np.linspace(4, 10, 18)]
Y_I = [-1.0, -2.0, *[0.0] * 18]
Y_J = [-3.0, 4.0, *[1.0] * 18]


@pytest.fixture
def pairs() -> pd.DataFrame:
    frame = pd.DataFrame({"pair": range(20), "dx": DX, "y_i": Y_I, "y_j": Y_J})
    frame["similar"] = frame["pair"] < 2
    return frame.assign(**MODEL, layer=0, neuron=3, text_i="a", text_j="b")


def test_distances_in_a_neurons_own_units_by_hand(pairs: pd.DataFrame) -> None:
    rows = normalised(pairs)
    assert rows["x"].iloc[:2].tolist() == [0.1, 0.2]
    assert rows["x"].max() == 1.0
    # Distances of outputs are 2, 6 and, of random pairs, eighteen times 1: their median is 1.
    assert rows["y"].iloc[:3].tolist() == [2.0, 6.0, 1.0]
    assert rows["signs"].iloc[:3].tolist() == [
        "negative-negative",
        "positive-negative",
        "positive-positive",
    ]


def test_units_are_those_of_random_pairs(pairs: pd.DataFrame) -> None:
    many = pd.concat([pairs, *[pairs.head(2).assign(dx=99.0, y_j=50.0)] * 30])
    rows = normalised(many)
    pd.testing.assert_frame_equal(rows.head(20), normalised(pairs))


def test_signs_among_similar_inputs_by_hand(pairs: pd.DataFrame) -> None:
    other = pairs.assign(neuron=4, y_i=1.0, y_j=2.0)
    shares = sign_shares(pd.concat([pairs, other])).set_index("neuron")
    names = ["negative-negative", "positive-negative", "positive-positive"]
    assert shares.loc[3, names].tolist() == [0.5, 0.5, 0.0]
    assert shares.loc[4, names].tolist() == [0.0, 0.0, 1.0]
    assert shares.loc[3, ["num_similar", "apart"]].tolist() == [2, 4.0]


def test_constant_outputs_and_inputs_are_unknown_not_zero(pairs: pd.DataFrame) -> None:
    rows = normalised(pairs.assign(y_i=1.0, y_j=1.0, dx=0.0))
    assert rows[["x", "y"]].isna().all(axis=None)
    assert scatter_chart(pairs.assign(y_i=1.0, y_j=1.0)) is None


def test_a_neuron_without_similar_pairs_has_no_shares(pairs: pd.DataFrame) -> None:
    alone = pairs.assign(similar=False)
    assert sign_shares(alone).empty
    assert scatter_chart(alone) is not None


def test_no_pairs_and_no_tokens() -> None:
    nothing = pd.DataFrame()
    assert sign_shares(nothing).empty
    assert separated_tokens(nothing).empty


def test_scatter_holds_the_points_and_stays_small() -> None:
    pairs = make_pairs(PROFILED)
    datasets = specification(scatter_chart(pairs))["datasets"].values()
    sizes = sorted(len(rows) for rows in datasets if "x" in rows[0])
    assert sizes == [MAX_POINTS] * len(PROFILED)
    one = pairs[pairs["neuron"] == 5]
    (points,) = (
        pd.DataFrame(rows)
        for rows in specification(scatter_chart(one))["datasets"].values()
        if "x" in rows[0]
    )
    truth = (one["dx"] / one.loc[~one["similar"], "dx"].max()).to_numpy()
    assert set(points["inputs"]) == {"random pair", "similar inputs"}
    assert points["x"].isin(truth).all()
    # The ends of the range are kept when points are thinned.
    assert (points["x"].min(), points["x"].max()) == (truth.min(), 1.0)


def test_neurons_with_the_largest_distance_are_drawn() -> None:
    census = make_neurons()
    some = tuple((layer, neuron) for layer in range(3) for neuron in range(4))
    kept = first_neurons(make_pairs(some, pairs=2), census)[["layer", "neuron"]].drop_duplicates()
    known = census.set_index(["layer", "neuron"])["wd"]
    expected = known[list(some)].sort_values(ascending=False).head(MAX_NEURONS)
    assert list(kept.itertuples(index=False, name=None)) == expected.index.tolist()


def test_without_a_census_the_first_neurons_are_drawn() -> None:
    kept = first_neurons(make_pairs(PROFILED, pairs=2), pd.DataFrame())
    assert list(kept["neuron"].unique()) == [5, 17, 100, 8]


def test_tokens_at_both_ends_by_hand() -> None:
    means = [3.0, -1.0, 0.5, -2.0]
    tokens = pd.DataFrame({"token": range(4), "text": list("abcd"), "mean": means, "sd": 0.1})
    tokens = tokens.assign(**MODEL, layer=1, neuron=2, count=[9, 9, 9, 4])
    ends = separated_tokens(tokens)
    # "d" occurs too seldom; of three tokens each stands at one end.
    assert ends["text"].tolist() == ["b", "c", "a"]
    assert ends["end"].tolist() == ["lowest", "lowest", "highest"]


def test_many_tokens_give_eight_at_each_end() -> None:
    tokens = make_tokens(PROFILED)
    ends = separated_tokens(tokens)
    assert set(ends.groupby(["layer", "end"]).size()) == {8}
    one = tokens[(tokens["layer"] == 0) & (tokens["count"] >= 5)].sort_values("mean")
    expected = [*one["token"].head(8), *one["token"].tail(8)]
    assert ends[ends["layer"] == 0]["token"].tolist() == expected
    rows = pd.concat(
        pd.DataFrame(rows) for rows in specification(token_chart(tokens))["datasets"].values()
    )
    assert np.allclose(rows["high"] - rows["mean"], rows["mean"] - rows["low"])
    assert len(rows) == 16 * len(PROFILED)


def test_blank_tokens_can_be_read_and_told_apart() -> None:
    assert readable(" the\n") == "·the\\n"
    assert len(readable("x" * 100)) == 24
    tokens = make_tokens(((0, 5),)).head(6)
    twice = tokens.assign(text=["x" * 30 + str(n) for n in range(6)], count=9)
    (rows,) = specification(token_chart(twice))["datasets"].values()
    assert len({row["label"] for row in rows}) == 6
