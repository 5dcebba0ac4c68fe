from dataclasses import replace

import numpy as np
import pytest
from firing_units import Analysis, active_neurons
from sklearn.metrics import mutual_info_score

from sweeper.errors import UserError
from sweeper.neurons.positional import positional_types
from sweeper.run.census_work import MissingPartError
from sweeper.run.firing_work import firing, firing_part, threshold_for
from sweeper.run.fresh_data import StaleDataError
from sweeper.score.memory import TokenBudget
from sweeper.spec.firing import FiringSpec

BUDGET = TokenBudget(100)
SPEC = FiringSpec(corpora=["one", "two"], length=16, windows=10, threshold=0.1)
PARTS = {"one": [(0, 2), (2, 9), (9, 10)], "two": [(0, 4), (4, 10)]}


@pytest.fixture
def texts(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("the cat sees the dogs that the old man feeds every morning. " * 30)
    two.write_text("no student who has read these books would ever believe what she said " * 4)
    return {"one": one, "two": two}


@pytest.fixture
def analysis(tiny_model, texts, tmp_path):
    """Function from a model_type to a census of it."""
    return lambda model_type, spec=SPEC: Analysis(
        tiny_model(model_type), spec, texts, tmp_path / "store"
    )


def census(of, parts):
    """Tables of a census that is put together from parts, computed last to first."""
    units = [of.part("firing_part", name, some) for name, cut in parts.items() for some in cut]
    for one in units[::-1]:
        of.keep(one, firing_part(of.model, one, BUDGET, of.store.uri))
    whole = of.whole("firing", units)
    key = of.keep(whole, firing(of.model, whole, BUDGET, of.store.uri))
    order = ["corpus", "layer", "neuron"]
    table = of.table("firing", key).sort_values(order).reset_index(drop=True)
    return table, of.table("positions", key)


@pytest.mark.parametrize("model_type", ["gpt2", "opt"])
def test_equals_brute_force(analysis, model_type):
    of = analysis(model_type)
    table, positions = census(of, PARTS)
    assert 1 < len(of.rows["two"]) < 10
    texts = {**of.rows, "all": [row for rows in of.rows.values() for row in rows]}
    shown = 0
    for corpus, rows in texts.items():
        active = active_neurons(of.model, rows, SPEC.threshold)
        for layer, of_layer in enumerate(active):
            found = table[(table["corpus"] == corpus) & (table["layer"] == layer)]
            np.testing.assert_array_equal(found["active"], of_layer.sum((0, 1)))
            assert (found["num_tokens"] == 16 * len(rows)).all()
            assert (found["num_windows"] == len(rows)).all()
            place = np.broadcast_to(np.arange(16), of_layer.shape[:2])
            for neuron in range(0, of_layer.shape[-1], 7):
                expected = mutual_info_score(place.ravel(), of_layer[..., neuron].ravel())
                assert found["information"].iloc[neuron] == pytest.approx(expected, abs=1e-12)
            types = positional_types(of_layer.mean(0).T, len(rows))
            positional = types["positional"].to_numpy()
            np.testing.assert_array_equal(found["positional"], positional)
            assert found["type"][positional].tolist() == types["type"][positional].tolist()
            assert found["strong"][positional].tolist() == types["strong"][positional].tolist()
            assert found[["type", "strong"]][~positional].isna().all(axis=None)
            if corpus == "all":
                curves = positions[positions["layer"] == layer]
                assert curves["neuron"].tolist() == np.flatnonzero(positional).tolist()
                for neuron, curve in zip(curves["neuron"], curves["frequency"], strict=True):
                    np.testing.assert_allclose(curve, of_layer[..., neuron].mean(0), atol=1e-7)
                shown += len(curves)
    assert shown > 5


def test_parts_are_the_whole_bit_for_bit(analysis):
    of = analysis("gpt2")
    in_parts, positions = census(of, PARTS)
    at_once, whole_positions = census(of, {"one": [(0, 10)], "two": [(0, 10)]})
    for column in in_parts:
        assert in_parts[column].astype(str).equals(at_once[column].astype(str)), column
    assert positions.astype(str).equals(whole_positions.astype(str))
    known = in_parts[in_parts["corpus"] == "all"]
    assert all(len(after) == 3 for after in known["after_ngrams"])
    rest = in_parts[in_parts["corpus"] != "all"]
    assert rest[["after_ngrams", "least_ngrams"]].isna().all(axis=None)


def test_few_windows_label_nobody_positional_and_say_so(analysis, caplog):
    of = analysis("gpt2", SPEC.model_copy(update={"windows": 4}))
    table, positions = census(of, {"one": [(0, 4)], "two": [(0, 4)]})
    assert (table["num_windows"].max(), table["information"].max() > 0.1) == (8, True)
    assert not table["positional"].any()
    assert positions.empty
    assert [record.message for record in caplog.records] == [
        "firing of gpt2: 8 windows are too few to tell positional neurons: none is labelled; "
        "at least 10 are needed"
    ]


def test_a_part_beyond_the_text_is_empty(analysis):
    of = analysis("opt", SPEC.model_copy(update={"windows": 1000}))
    end = len(of.rows["two"])
    beyond = of.part("firing_part", "two", (end, 1000))
    found = firing_part(of.model, beyond, BUDGET, of.store.uri)
    assert found.tables["firing_parts"].empty
    assert (found.num_items, found.num_tokens) == (0, 0)
    table, _ = census(of, {"one": [(0, 1000)], "two": [(0, end), (end, 1000)]})
    assert (table[table["corpus"] == "two"]["num_windows"] == end).all()


def test_a_missing_part_is_a_failure(analysis):
    of = analysis("opt")
    units = [of.part("firing_part", "one", some) for some in PARTS["one"]]
    of.keep(units[0], firing_part(of.model, units[0], BUDGET, of.store.uri))
    with pytest.raises(MissingPartError, match="lacks 2 of 3 parts of the firing census"):
        firing(of.model, of.whole("firing", units), BUDGET, of.store.uri)


def test_other_text_than_the_drivers_is_refused(analysis):
    of = analysis("opt")
    part = of.part("firing_part", "one", (0, 2))
    stale = replace(part, analysis={**part.analysis, "fingerprints": {"one": "sha256:1"}})
    with pytest.raises(StaleDataError, match="on the driver"):
        firing_part(of.model, stale, BUDGET, of.store.uri)


def test_a_text_without_a_whole_window(analysis, texts):
    texts["two"].write_text("the cat sees the dogs")
    of = analysis("opt")
    with pytest.raises(UserError, match=r"firing.length: 16 .*'two'.*allowed is at most \d+"):
        firing_part(of.model, of.part("firing_part", "two", (0, 4)), BUDGET, of.store.uri)


def test_thresholds_by_activation_function(tiny_model):
    by_name = SPEC.model_copy(update={"threshold": {"relu": 0.0, "gelu_pytorch_tanh": 0.2}})
    assert threshold_for(tiny_model("opt"), by_name) == 0.0
    assert threshold_for(tiny_model("gemma2"), by_name) == 0.2
    assert threshold_for(tiny_model("llama"), SPEC) == 0.1
    with pytest.raises(UserError, match=r"firing.threshold: .*'silu'.*model 'llama'; allowed"):
        threshold_for(tiny_model("llama"), by_name)


def test_windows_are_cut_to_the_context(analysis):
    of = analysis("opt", SPEC.model_copy(update={"length": 200, "corpora": ["one"]}))
    found = firing_part(of.model, of.part("firing_part", "one", (0, 1)), BUDGET, of.store.uri)
    assert found.num_tokens == of.model.checkpoint.context
