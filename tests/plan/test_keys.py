from dataclasses import fields, replace

import pytest
from records_factory import checkpoint, condition

from sweeper.plan.keys import census_key, match_key, profile_key, score_key
from sweeper.records import Checkpoint, content_hash
from sweeper.spec.condition import MatchedSet
from sweeper.spec.corpus import CensusSpec
from sweeper.spec.profile import ProfileSpec

TASK = {"kind": "minimal_pairs", "data": "sha256:1", "reduce": "sum"}
NAMES_ONLY = {"model", "revision", "location", "commit", "origin", "device", "step"}
"""What may differ between checkpoints that compute the same numbers."""


@pytest.mark.parametrize(
    ("change", "value"),
    [("fingerprint", "hub:abd"), ("dtype", "bfloat16"), ("attention", "eager")],
)
def test_every_ingredient_of_the_model_changes_the_key(change, value):
    changed = replace(checkpoint(), **{change: value})
    assert score_key(changed, condition(), TASK) != score_key(checkpoint(), condition(), TASK)
    census = CensusSpec(corpus="c")
    assert census_key(changed, census, "sha256:0") != census_key(checkpoint(), census, "sha256:0")


def test_names_and_places_are_not_part():
    renamed = checkpoint(model="x", revision="v1", location="elsewhere", commit=None, origin="?")
    assert score_key(renamed, condition(), TASK) == score_key(checkpoint(), condition(), TASK)
    other = condition(name="other", seed=5)
    assert score_key(checkpoint(), other, TASK) == score_key(checkpoint(), condition(), TASK)


def test_no_field_of_a_checkpoint_is_forgotten():
    """A new field must be sorted in here: part of the identity, implied by it, or a name."""
    # By the fingerprint.
    implied = {"model_type", "activation", "num_layers", "num_neurons", "context", "num_parameters"}
    known = NAMES_ONLY | implied | checkpoint().identity().keys()
    assert {field.name for field in fields(Checkpoint)} == known


@pytest.mark.parametrize(
    "change",
    [
        {"operation": "zero"},
        {"neurons": {0: (1, 3)}},
        {"neurons": {1: (1, 2)}},
        {"neurons": {0: (1, 2), 1: (0,)}},
        {"operation": None, "neurons": {}},
        {"values": {0: (0.5, 1.0)}},
        {"values": {0: (0.5, 0.5)}},
        {"allow_unchanged": True},  # or its zero effect would pass where it is an error
    ],
)
def test_every_ingredient_of_the_condition_changes_the_key(change):
    changed = condition(**change)
    assert score_key(checkpoint(), changed, TASK) != score_key(checkpoint(), condition(), TASK)


@pytest.mark.parametrize(
    "change", [{"data": "sha256:2"}, {"reduce": "mean"}, {"kind": "perplexity"}, {"limit": 5}]
)
def test_every_ingredient_of_the_task_changes_the_key(change):
    changed = score_key(checkpoint(), condition(), {**TASK, **change})
    assert changed != score_key(checkpoint(), condition(), TASK)


def test_census_rules_change_the_key_and_memory_does_not():
    base = CensusSpec(corpus="c", length=32)
    key = census_key(checkpoint(), base, "sha256:0")
    changes = ({"length": 16}, {"overlap": 0.25}, {"windows": 3}, {"method": "exact"})
    for change in (*changes, {"bins": 64}, {"pairs": 5}):
        assert census_key(checkpoint(), base.model_copy(update=change), "sha256:0") != key
    assert census_key(checkpoint(), base, "sha256:1") != key
    for change in ({"memory_gb": 1.0}, {"corpus": "renamed"}, {"parts": 4}):
        assert census_key(checkpoint(), base.model_copy(update=change), "sha256:0") == key
    # Bins are of no matter where there are none.
    exact, other = (base.model_copy(update={"method": "exact", "bins": n}) for n in (64, 128))
    assert census_key(checkpoint(), exact, "s") == census_key(checkpoint(), other, "s")
    # Windows are cut to the context, 64 here: a longer one is the same census.
    long, longer = (base.model_copy(update={"length": n}) for n in (64, 2048))
    assert census_key(checkpoint(), long, "s") == census_key(checkpoint(), longer, "s")


def match_of(model: Checkpoint | None = None, **changes) -> str:
    parts = {"target": condition(), "census": "c0", "task": TASK, "match": "top", **changes}
    names = {"kind": "matched", "by": "perplexity", "match": parts.pop("match"), "task": "t"}
    further = {key: parts.pop(key) for key in ("statistic", "tolerance") if key in parts}
    neurons = MatchedSet.model_validate(names | further)
    return match_key(
        model or checkpoint(), neurons, parts["target"], parts["census"], parts["task"]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"model": checkpoint(dtype="bfloat16")},
        {"target": condition(operation="zero")},
        {"target": condition(neurons={0: (1, 3)})},
        {"target": condition(values={0: (1.0, 2.0)})},
        {"census": "c1"},
        {"task": {**TASK, "limit": 5}},
        {"statistic": "md"},
        {"tolerance": 0.1},
    ],
)
def test_every_ingredient_of_a_match_changes_its_key(change):
    assert match_of(**change) != match_of()


def test_names_are_no_part_of_a_match():
    assert match_of(match="other", target=condition(name="other")) == match_of()


def profile_of(**changes) -> str:
    parts = {"model": checkpoint(), "text": "sha256:0", "neurons": {0: (1, 2)}, **changes}
    census = {key: parts[key] for key in ("length", "bins", "windows", "corpus") if key in parts}
    wanted = {"windows": parts["read"]} if "read" in parts else {}
    wanted |= {key: parts[key] for key in ("statistic", "pairs") if key in parts}
    return profile_key(
        parts["model"],
        CensusSpec.model_validate({"corpus": "c", "length": 32, **census}),
        ProfileSpec.model_validate(wanted),
        parts["text"],
        parts["neurons"],
    )


@pytest.mark.parametrize(
    "change",
    [
        {"model": checkpoint(fingerprint="hub:abd")},
        {"text": "sha256:1"},
        {"neurons": {0: (1, 3)}},
        {"neurons": {1: (1, 2)}},
        {"length": 16},
        {"read": 3},
        {"pairs": 5},
    ],
)
def test_every_ingredient_of_a_profile_changes_its_key(change):
    assert profile_of(**change) != profile_of()


def test_how_its_neurons_were_found_is_no_part_of_a_profile():
    for change in ({"statistic": "skew"}, {"bins": 64}, {"windows": 7}, {"corpus": "renamed"}):
        assert profile_of(**change) == profile_of()
    assert profile_of(length=64) == profile_of(length=2048)  # the context is 64


def test_the_hash_ignores_order_and_refuses_what_is_no_plain_data():
    assert content_hash({"a": 1, "b": [2, 3]}) == content_hash({"b": [2, 3], "a": 1})
    assert content_hash([1, 2]) != content_hash([2, 1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash(float("nan"))
    with pytest.raises(TypeError):
        content_hash({1, 2})


def test_keys_of_an_existing_store_stay_valid():
    """These very hashes: a change here makes everybody's results unfindable."""
    assert score_key(checkpoint(), condition(), TASK) == "c992144d19003d02843e6ac3e9b192b5"
    assert (
        census_key(checkpoint(), CensusSpec(corpus="c"), "sha256:0")
        == "e760dce414f38e79cb10e4c9fe8154e3"
    )
