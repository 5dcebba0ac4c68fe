"""The job of study 1, run on a model of its own."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from planted.construction import Planted, build_planted
from planted.language import draw_language
from rich.console import Console

import sweeper

JOB = Path(__file__).with_name("job.yaml")
PER_CLUSTER = 12


@dataclass(frozen=True)
class Replication:
    """One model with one set of texts and pairs, and what the job found in it."""

    planted: Planted
    run: sweeper.Run


def replicate(folder: Path, seed: int, *, plant: bool, drop: tuple[str, ...] = ()) -> Replication:
    """Build a model, write its texts and pairs, and run the job on it.

    Args:
        folder: where all of it goes.
        seed: of everything that is drawn.
        plant: whether number is carried by the planted neurons.
        drop: overrides that leave parts of the job out.
    """
    language = draw_language(np.random.default_rng([seed, int(plant)]))
    planted = build_planted(language, folder / "model", plant=plant)
    for corpus in ("calibration", "heldout"):
        (folder / f"{corpus}.txt").write_text(language.text(600))
    for task in ("agreement", "facts"):
        language.pairs(task, PER_CLUSTER).to_parquet(folder / f"{task}.parquet")
    paths = {
        "store": "store",
        "model.planted.path": "model",
        "corpus.calibration.path": "calibration.txt",
        "corpus.heldout.path": "heldout.txt",
        "suite.agreement.source.path": "agreement.parquet",
        "suite.facts.source.path": "facts.parquet",
    }
    overrides = [f"{key}={folder / name}" for key, name in paths.items()]
    job = sweeper.load_job(JOB, [*overrides, *drop])
    return Replication(planted, sweeper.run_job(job, Console(file=io.StringIO())))
