from dataclasses import replace

import pytest
from records_factory import checkpoint

from sweeper.errors import UserError
from sweeper.plan.cells import drift_cell
from sweeper.plan.keys import drift_key
from sweeper.plan.layers import concrete_conditions
from sweeper.plan.revisions import (
    check_revisions,
    chosen_here,
    followed_from,
    predecessor,
    reference,
)
from sweeper.spec.job import JobSpec

STEPS = (0, 1, 512, 1000, 2000)


def steps(model="m"):
    return [
        checkpoint(model=model, revision=f"step{step}", step=step, fingerprint=f"{model}{step}")
        for step in STEPS
    ]


def job(drift=None, **conditions):
    plain = {
        "name": "j",
        "model": {"m": {"path": "org/m"}},
        "corpus": {"c": {"kind": "topics"}},
        "census": {"corpus": "c"},
        "suite": {
            "g": {"kind": "minimal_pairs", "source": {"kind": "grammar"}},
            "p": {"kind": "perplexity", "corpus": "c"},
        },
        "condition": {"base": {"operation": None}, **conditions},
        "drift": drift,
    }
    return JobSpec.model_validate(plain)


def zero(**neurons):
    return {"operation": "zero", "neurons": neurons}


COHORT = zero(kind="top", fraction=0.1, revision="last", layers={"groups": 2})
OWN = zero(kind="top", fraction=0.1)


def test_controls_follow_what_they_control():
    asked = job(
        cohort=COHORT,
        drawn=zero(kind="random", match="cohort"),
        alike=zero(kind="matched", match="cohort", by="moments"),
        of_alike=zero(kind="random", match="alike"),
        own=OWN,
        own_drawn=zero(kind="random", match="own"),
        free=zero(kind="random", fraction=0.1),
        once=zero(kind="random", fraction=0.1, revision="step0"),
        named=zero(kind="explicit", neurons={0: [1]}),
    )
    conditions = concrete_conditions(asked, checkpoint())
    words = {concrete.family: followed_from(conditions, n) for n, concrete in conditions.items()}
    last = dict.fromkeys(("cohort", "drawn", "alike", "of_alike"), "last")
    none = dict.fromkeys(("base", "own", "own_drawn", "free", "named"))
    assert words == {**last, **none, "once": "step0"}


def test_a_word_is_one_of_the_models_own_revisions():
    places = [*steps("other"), *steps()]
    here = places[-2]
    assert reference(places, here, "first") == places[5]
    assert reference(places, here, "last") == places[-1]
    assert reference(places, here, "step1") == places[6]
    assert reference([checkpoint()], checkpoint(), "last") == checkpoint()


def test_a_revision_that_the_model_lacks_is_one_line():
    asked = job(cohort=zero(kind="top", fraction=0.1, revision="step1001"))
    with pytest.raises(UserError) as caught:
        check_revisions(asked, steps())
    text = str(caught.value)
    assert text == (
        "condition.cohort.neurons.revision: 'step1001' is no revision of model 'm' in this job; "
        "allowed: first, last and the 5 revisions step0 to step2000; did you mean step1000?"
    )
    check_revisions(job(cohort=zero(kind="top", fraction=0.1, revision="step512")), steps())
    with pytest.raises(UserError, match=r"allowed: first, last and main$"):
        check_revisions(asked, [checkpoint()])


def test_every_model_must_have_it():
    asked = job(cohort=zero(kind="top", fraction=0.1, revision="step512"))
    with pytest.raises(UserError, match="'step512' is no revision of model 'n'"):
        check_revisions(asked, [*steps(), checkpoint(model="n")])


def test_sets_are_chosen_at_their_revision_and_nowhere_else():
    conditions = concrete_conditions(job(cohort=COHORT, own=OWN), checkpoint())
    places = steps()
    name = next(name for name in conditions if name.startswith("cohort"))
    assert [chosen_here(conditions, places, place, name) for place in places] == [False] * 4 + [
        True
    ]
    assert all(chosen_here(conditions, places, place, "own") for place in places)


@pytest.mark.parametrize(
    ("every", "pairs"),
    [
        (1, {1: 0, 512: 1, 1000: 512, 2000: 1000}),
        (2, {512: 0, 2000: 512}),
        (3, {1000: 0}),
        (5, {}),
    ],
)
def test_every_so_many_revisions_are_compared(every, pairs):
    asked, places = job(drift={"every": every}), [*steps("other"), *steps()]
    found = {place.step: predecessor(asked, places, place) for place in places[5:]}
    assert {step: p.step for step, p in found.items() if p} == pairs
    assert all(p is None or p.model == "m" for p in found.values())


def test_drift_needs_two_revisions():
    check_revisions(job(drift={"every": 4}), steps())
    with pytest.raises(UserError, match=r"^drift\.every = 5: no model has more than 5 revisions"):
        check_revisions(job(drift={"every": 5}), steps())
    with pytest.raises(UserError, match="no model has more than 1 revisions"):
        check_revisions(job(drift={}), [checkpoint()])
    # One of several models is enough.
    check_revisions(job(drift={}), [*steps(), checkpoint(model="n")])


def test_without_the_key_nothing_is_compared():
    assert predecessor(job(), steps(), steps()[1]) is None


def test_a_drift_is_keyed_by_its_two_sets_of_weights_alone():
    before, after = steps()[:2]
    key = drift_key(after, before)
    assert drift_key(replace(after, dtype="bfloat16", attention="eager", model="x"), before) == key
    assert drift_key(before, after) != key
    assert drift_key(replace(after, fingerprint="hub:other"), before) != key
    assert drift_key(after, replace(before, fingerprint="hub:other")) != key
    cell = drift_cell(after, before)
    assert (cell.key, cell.kind, cell.revision, cell.task) == (key, "drift", "step1", "step0")
