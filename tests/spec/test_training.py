from pathlib import Path

import pytest
import yaml

from sweeper.errors import UserError
from sweeper.spec import FileCorpus, TopicsCorpus, TrainingJob, load_job, load_training

JOBS = Path(__file__).resolve().parents[2] / "jobs"
JOB = JOBS / "train_tiny_pythia.yaml"

MESSAGES = {
    "stesp=3": (
        "stesp: unknown key (value 3); allowed: kind, output, seed, text, architecture, optimiser, "
        "steps, batch, checkpoints, resume_every, threads; did you mean steps?"
    ),
    "architecture.hiden_size=64": (
        "architecture.hiden_size: unknown key (value 64); allowed: hidden_size, num_hidden_layers, "
        "num_attention_heads, intermediate_size, max_position_embeddings, vocab_size; "
        "did you mean architecture.hidden_size?"
    ),
    "architecture.hidden_size=100": (
        "architecture: hidden_size is 100; 4 heads need a multiple of 32"
    ),
    "architecture.vocab_size=256": (
        "architecture.vocab_size: 256 is not allowed; allowed is a whole number of at least 257"
    ),
    "optimiser.learning_rate=0": (
        "optimiser.learning_rate: 0 is not allowed; allowed is a number above 0"
    ),
    "optimiser.schedule=cosin": (
        "optimiser.schedule: 'cosin' is not allowed; allowed is one of cosine, constant; "
        "did you mean cosine?"
    ),
    "steps=10": "checkpoints is 12; 10 steps allow 11",
    "~steps": "steps: missing; allowed is a whole number of at least 1",
    "kind=sweep": "kind: 'sweep' is not allowed; allowed is training",
    "text.corpus.kind=topic": (
        "text.corpus.kind: 'topic' is not allowed; allowed is one of hub, file, topics; "
        "did you mean topics?"
    ),
}


@pytest.mark.parametrize("override", MESSAGES)
def test_what_is_wrong_is_said_in_one_line(override):
    with pytest.raises(UserError) as caught:
        load_training(JOB, [override])
    assert str(caught.value) == MESSAGES[override]


def test_options_of_sweeps_are_none_of_a_training():
    with pytest.raises(UserError, match=r"^model: unknown key"):
        load_training(JOB, ["model=gpt2"])


def test_a_file_of_the_other_kind_is_named():
    with pytest.raises(UserError, match=r"train_tiny_pythia\.yaml: a training \(kind: training\)"):
        load_job(JOB)
    with pytest.raises(UserError, match=r"quickstart\.yaml: a sweep \(no kind: training\)"):
        load_training(JOBS / "quickstart.yaml")


def test_the_shipped_job_reads_what_the_sweep_does_not_measure_on():
    job = load_training(JOB)
    assert isinstance(job.text.corpus, TopicsCorpus)
    heldout = yaml.safe_load((JOBS.parent / "conf" / "corpus" / "topics_heldout.yaml").read_text())
    assert job.text.corpus.limit == heldout["topics_heldout"]["skip"]
    assert TrainingJob.model_validate_json(job.model_dump_json()) == job


def test_the_shipped_sweep_scans_what_the_shipped_training_writes():
    sweep, training = load_job(JOBS / "tiny_pythia_dynamics.yaml"), load_training(JOB)
    assert sweep.model["tiny_pythia"].path == training.output
    assert sweep.model["tiny_pythia"].revisions == "step*"
    assert sweep.seeds == 10
    for name in ("topics", "topics_heldout"):
        assert isinstance(sweep.corpus[name], TopicsCorpus)
    assert sweep.suite["perplexity"].corpus == "topics_heldout"
    assert sweep.suite["perplexity"].length == training.architecture.max_position_embeddings


def test_overrides_change_the_kind_of_the_text(tmp_path):
    text = tmp_path / "a.txt"
    job = load_training(JOB, ["text.corpus.kind=file", f"text.corpus.path={text}", "batch=3"])
    assert job.text.corpus == FileCorpus(path=str(text), limit=60)
    assert job.batch == 3


def test_a_training_may_build_on_another(tmp_path):
    (tmp_path / "base.yaml").write_text(JOB.read_text())
    child = tmp_path / "child.yaml"
    child.write_text("defaults: [base, _self_]\nkind: training\nseed: 5\n")
    assert load_training(child) == load_training(JOB, ["seed=5"])


@pytest.mark.parametrize(
    ("steps", "checkpoints", "expected"),
    [
        (1, 2, [0, 1]),
        (8, 3, [0, 1, 8]),
        (16, 6, [0, 1, 2, 4, 8, 16]),
        (5, 6, [0, 1, 2, 3, 4, 5]),
        (1000, 5, [0, 1, 10, 100, 1000]),
    ],
)
def test_checkpoints_at_even_distances_of_logarithms(steps, checkpoints, expected):
    job = load_training(JOB, [f"steps={steps}", f"checkpoints={checkpoints}"])
    assert job.checkpoint_steps == expected


def test_every_number_of_checkpoints_is_kept():
    for steps in range(1, 80):
        for checkpoints in range(2, steps + 2):
            job = TrainingJob.model_construct(steps=steps, checkpoints=checkpoints)
            kept = job.checkpoint_steps
            assert len(kept) == checkpoints
            assert kept == sorted({*kept, 0, steps})
