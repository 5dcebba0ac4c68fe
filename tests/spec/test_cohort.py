from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.spec import load_job
from sweeper.spec.revisions import PYTHIA_STEPS

JOBS = Path(__file__).resolve().parents[2] / "jobs"
DYNAMICS = JOBS / "pythia_dynamics.yaml"
QUICKSTART = JOBS / "quickstart.yaml"


def test_the_real_suite_is_eight_models_with_a_cohort():
    job = load_job(DYNAMICS, ["suite.tse.source.path=tse.parquet"])
    assert len(job.model) == 8
    assert {spec.revisions for spec in job.model.values()} == {"pythia-steps"}
    assert job.condition["cohort1_negative"].neurons.revision == "last"
    assert job.condition["random_cohort1_negative"].neurons.match == "cohort1_negative"
    # What the comment in the job says of every tenth revision.
    steps = [int(name.removeprefix("step")) for name in PYTHIA_STEPS[:: job.drift.every]]
    assert steps == [0, 512, *range(10_000, 140_001, 10_000)]


def test_one_model_and_fewer_steps_from_the_command_line():
    job = load_job(
        DYNAMICS,
        [
            "model=pythia-70m",
            "suite.tse.source.path=tse.parquet",
            "model.pythia-70m.revisions='pythia-steps | log 12'",
            "drift.every=1",
        ],
    )
    assert list(job.model) == ["pythia-70m"]
    assert job.drift.every == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+drift.every=0", r"^drift\.every: 0 .*whole number of at least 1"),
        ("+drift.evry=2", r"^drift\.evry: .*every"),
        (
            "+condition.random_negative.neurons.revision=last",
            r"^condition\.random_negative\.neurons: revision is given beside match; "
            r"it is allowed only with fraction",
        ),
        ("+condition.top1_negative.neurons.revision=''", r"^condition\.top1_negative\.neurons"),
        ("+condition.drift={operation: zero,neurons: {kind: all}}", r"the name drift is taken"),
    ],
)
def test_bad_values_are_one_line(override, message):
    with pytest.raises(UserError, match=message) as caught:
        load_job(QUICKSTART, [override])
    assert "\n" not in str(caught.value)


def test_switching_to_another_kind_drops_the_revision():
    chosen = "condition.cohort1_negative.neurons"
    job = load_job(
        DYNAMICS,
        [
            "suite.tse.source.path=tse.parquet",
            "condition=[baseline,cohort1_negative]",
            f"{chosen}.kind=explicit",
            f"+{chosen}.neurons={{0: [1, 2]}}",
        ],
    )
    assert job.condition["cohort1_negative"].neurons.kind == "explicit"
