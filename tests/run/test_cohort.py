"""Sets that are chosen at one revision, as the resolution of conditions sees them."""

import numpy as np
import pandas as pd
from records_factory import checkpoint

from sweeper.neurons.moments import nearest_by_moments
from sweeper.run.resolve import Sets
from sweeper.spec.job import JobSpec

TEXT = {"g": {"kind": "minimal_pairs", "source": {"kind": "grammar"}}}
LAST = checkpoint(revision="step9", fingerprint="hub:9")
HERE = checkpoint(revision="step1", fingerprint="hub:1")


def zero(**neurons):
    return {"operation": "zero", "neurons": neurons}


CONDITIONS = {
    "base": {"operation": None},
    "cohort": zero(kind="top", fraction=0.1, revision="last"),
    "drawn": zero(kind="random", match="cohort"),
    "alike": zero(kind="matched", match="cohort", by="moments", moments=["skew"]),
    "as_bad": zero(kind="matched", match="cohort", by="perplexity", task="p"),
    "own": zero(kind="top", fraction=0.1),
    "own_drawn": zero(kind="random", match="own"),
    "once": zero(kind="random", fraction=0.1, revision="last"),
}


def job(**changes):
    return JobSpec.model_validate(
        {
            "name": "j",
            "model": {"m": {"path": "org/m"}},
            "corpus": {"c": {"kind": "topics"}},
            "census": {"corpus": "c"},
            "suite": {**TEXT, "p": {"kind": "perplexity", "corpus": "c"}},
            "condition": {**CONDITIONS, **changes},
            "seeds": 2,
        }
    )


def census(seed):
    rng = np.random.default_rng(seed)
    layer, neuron = np.divmod(np.arange(128), 32)
    columns = {name: rng.normal(size=128) for name in ("wd", "skew", "mean")}
    return pd.DataFrame({"layer": layer, "neuron": neuron, **columns})


def top(rows):
    line = rows.groupby("layer")["wd"].transform(lambda wd: wd.quantile(0.9))
    return {
        layer: tuple(chosen["neuron"]) for layer, chosen in rows[rows["wd"] > line].groupby("layer")
    }


def sets(here=None, there=None, matches=None, asked=None):
    reference = Sets(asked or job(), LAST, there, matches or {})
    return Sets(asked or job(), HERE, here, references={"last": reference}), reference


def test_the_cohort_is_chosen_by_the_census_of_its_revision():
    found, _ = sets(census(1), census(9), {"as_bad": 0.3})
    assert found.condition("cohort").neurons == top(census(9)) != top(census(1))
    assert found.condition("own").neurons == top(census(1))


def test_controls_of_a_cohort_are_the_same_at_every_revision():
    found, reference = sets(census(1), census(9), {"as_bad": 0.3})
    for name, seed in (("drawn", 0), ("drawn", 1), ("alike", None), ("as_bad", None), ("once", 1)):
        here, there = found.condition(name, seed), reference.condition(name, seed)
        assert here == there
        assert here.key == there.key
    drawn = found.condition("drawn", 0).neurons
    assert {layer: len(chosen) for layer, chosen in drawn.items()} == dict.fromkeys(range(4), 4)
    assert drawn != found.condition("drawn", 1).neurons
    assert found.condition("alike").neurons == nearest_by_moments(
        census(9), top(census(9)), ["skew"]
    )
    # A control of what is chosen anew is drawn anew.
    assert found.condition("own_drawn", 0).neurons != reference.condition("own_drawn", 0).neurons


def test_what_is_known_depends_on_the_other_revision():
    chosen_there = {"cohort", "drawn", "alike", "once"}
    nothing, _ = sets()
    assert {c.name for c in nothing.all()} == {"base", "once"}
    own, _ = sets(here=census(1))
    assert {c.name for c in own.all()} == {"base", "once", "own", "own_drawn"}
    there, _ = sets(there=census(9))
    assert {c.name for c in there.all()} == {"base"} | chosen_there
    matched, _ = sets(census(1), census(9), {"as_bad": 0.3})
    assert {c.name for c in matched.all()} == set(CONDITIONS)


def test_means_are_those_of_the_own_revision():
    mean = {"operation": "mean", "neurons": CONDITIONS["cohort"]["neurons"]}
    asked = job(
        cohort=mean,
        drawn={"operation": "mean", "neurons": CONDITIONS["drawn"]["neurons"]},
        alike={"operation": "mean", "neurons": CONDITIONS["alike"]["neurons"]},
        as_bad={"operation": "mean", "neurons": CONDITIONS["as_bad"]["neurons"]},
    )
    found, _ = sets(census(1), census(9), {"as_bad": 0.3}, asked)
    condition = found.condition("cohort")
    assert condition.neurons == top(census(9))
    means = census(1).set_index(["layer", "neuron"])["mean"]
    for layer, chosen in condition.neurons.items():
        assert condition.values[layer] == tuple(means.loc[layer].loc[list(chosen)])
    without, _ = sets(None, census(9), {"as_bad": 0.3}, asked)
    assert not without.known("cohort")


def test_how_alike_a_control_is_was_settled_where_it_was_chosen():
    found, reference = sets(census(1), census(9), {"as_bad": 0.3})
    pd.testing.assert_frame_equal(found.balances(["alike"]), reference.balances(["alike"]))


def test_without_another_revision_it_is_chosen_here():
    alone = Sets(job(), LAST, census(9))
    assert alone.condition("cohort").neurons == top(census(9))
