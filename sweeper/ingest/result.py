"""What is imported: one task of one checkpoint, as an evaluation has reported it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sweeper.ingest.samples import SampleFile
from sweeper.records import content_hash

RULES = 1
"""Part of every key of an imported cell: a change of how files become rows raises it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The checkpoint that was evaluated."""

    model: str
    revision: str
    step: int | None
    """Training step; None where the revision does not tell one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number that the evaluation reports for a task."""

    name: str
    filter: str
    value: float
    stderr: float | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One task of one checkpoint in one evaluation: what becomes a cell."""

    origin: Origin
    task: str
    """The harness's name."""
    num_fewshot: int
    metrics: tuple[Metric, ...]
    num_items: int | None
    """Documents behind the metrics; None where the file does not tell."""
    source: str
    """The file, as it was found."""
    date: float
    """When it was evaluated, seconds since 1970: of several evaluations the last one counts."""
    seconds: float = 0.0
    """Its share of the evaluation's time; 0 where the file does not tell."""
    versions: Mapping[str, str] = field(default_factory=dict)
    samples: SampleFile | None = None
    """The log of single documents, where there is one."""

    @property
    def name(self) -> str:
        """The task's name in the run, which tells the examples in the prompt."""
        return shot_name(self.task, self.num_fewshot)

    @property
    def place(self) -> tuple[str, str, str]:
        """What a run has one cell for: model, revision and task."""
        return self.origin.model, self.origin.revision, self.name

    @cached_property
    def key(self) -> str:
        """Content hash of what was reported, whatever file it stands in."""
        metrics = sorted(
            [metric.name, metric.filter, _text(metric.value), _text(metric.stderr)]
            for metric in self.metrics
        )
        return content_hash(
            {
                "import": RULES,
                "model": self.origin.model,
                "revision": self.origin.revision,
                "task": self.task,
                "num_fewshot": self.num_fewshot,
                "num_items": self.num_items,
                "metrics": metrics,
                "samples": None if self.samples is None else self.samples.digest,
            }
        )


def shot_name(task: str, num_fewshot: int) -> str:
    """Name a task with the examples in its prompt, so that both can stand in one run."""
    return f"{task} ({num_fewshot}-shot)" if num_fewshot else task


def _text(number: float | None) -> str | None:
    """A float in full, NaN and infinity among them, which a content hash does not take."""
    if number is None or math.isnan(number):
        return None if number is None else "nan"
    return repr(number)
