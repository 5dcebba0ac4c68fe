from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.spec import load_job
from sweeper.spec.contrast import Difference, Dissociation

QUICKSTART = Path(__file__).resolve().parents[2] / "jobs" / "quickstart.yaml"
OVERRIDES = [
    "suite=[perplexity,grammar,piqa]",
    "condition=[baseline,top1_negative,random_negative,bottom1_negative]",
]
DISSOCIATION = (
    "contrasts.d={kind:dissociation,target:top1_negative,control:bottom1_negative,"
    "grammar:[grammar],other:[piqa]}"
)


def _load(*overrides):
    return load_job(QUICKSTART, [*OVERRIDES, *overrides])


def _message(*overrides):
    with pytest.raises(UserError) as caught:
        _load(*overrides)
    return str(caught.value)


def test_a_job_says_which_conditions_are_contrasted():
    job = _load(
        DISSOCIATION,
        "contrasts.plain={kind:difference,target:top1_negative,control:random_negative,metric:nll}",
    )
    assert job.contrasts["d"] == Dissociation(
        kind="dissociation",
        target="top1_negative",
        control="bottom1_negative",
        grammar=["grammar"],
        other=["piqa"],
        metric="accuracy",
    )
    assert job.contrasts["plain"] == Difference(
        kind="difference", target="top1_negative", control="random_negative", metric="nll"
    )


def test_most_jobs_have_none():
    assert _load().contrasts == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "contrasts.d.target=top1_negativ",
            "contrasts.d.target: 'top1_negativ' is no condition with an operation; allowed: "
            "top1_negative, bottom1_negative; did you mean top1_negative?",
        ),
        (
            "contrasts.d.target=random_negative",
            "contrasts.d.target: 'random_negative' is drawn at random; allowed: top1_negative, "
            "bottom1_negative; did you mean top1_negative?",
        ),
        (
            "contrasts.d.control=baseline",
            "contrasts.d.control: 'baseline' is no condition with an operation; allowed: "
            "top1_negative, random_negative, bottom1_negative",
        ),
        (
            "contrasts.d.control=top1_negative",
            "contrasts.d.control: 'top1_negative' is the target itself; another one is needed",
        ),
        (
            "contrasts.d.other=[pica]",
            "contrasts.d.other: 'pica' is no task of the suite; allowed: grammar, piqa; "
            "did you mean piqa?",
        ),
        (
            "contrasts.d.other=[perplexity]",
            "contrasts.d.other: 'perplexity' has no accuracy; allowed: grammar, piqa",
        ),
        (
            "contrasts.d.other=[grammar]",
            "contrasts.d: grammar is listed under grammar and under other",
        ),
        (
            "contrasts.d.other=[piqa,piqa]",
            "contrasts.d.other: piqa is listed twice; every entry may stand there once",
        ),
        (
            "contrasts.d.metric=acuracy",
            "contrasts.d.metric: 'acuracy' is not allowed; allowed is one of accuracy, margin, "
            "nll; did you mean accuracy?",
        ),
        (
            "contrasts.d.kind=disociation",
            "contrasts.d.kind: 'disociation' is not allowed; allowed is one of dissociation, "
            "difference; did you mean dissociation?",
        ),
        (
            "condition.bottom1_negative.neurons.layers={groups:2}",
            "contrasts.d.control: 'bottom1_negative' is repeated for groups of layers, and the "
            "target 'top1_negative' is not repeated for the same ones",
        ),
    ],
)
def test_a_wrong_contrast_names_key_value_and_what_is_allowed(override, message):
    assert _message(DISSOCIATION, override) == message


def test_layer_groups_are_compared_with_the_same_ones_or_with_one_condition():
    groups = "condition.top1_negative.neurons.layers={groups:2}"
    assert _load(DISSOCIATION, groups).contrasts
    random = "contrasts.d.control=random_negative"  # repeated like what it matches
    assert _load(DISSOCIATION, groups, random).contrasts


def test_a_metric_that_no_task_has_is_an_error():
    text = "contrasts.x={kind:difference,target:top1_negative,control:bottom1_negative,metric:nll}"
    with pytest.raises(UserError, match=r"contrasts\.x\.metric: no task of the suite has nll"):
        load_job(QUICKSTART, ["suite=[grammar]", OVERRIDES[1], text])
