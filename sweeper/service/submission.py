"""From a job to what a cluster is given: the resolved job file, the command, and an identity."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweeper.errors import UserError
from sweeper.records import content_hash
from sweeper.spec.corpus import FileCorpus
from sweeper.spec.job import JobSpec
from sweeper.spec.task import FilePairs, HantaTagger, LmEvalSpec, MinimalPairsSpec, SurprisalSpec

JOB_FILE = "job.yaml"

ENTRYPOINT = f"exec sweeper run {JOB_FILE}"
"""Runs on the head; ``exec``, so that the signal of a stop reaches the driver itself."""

RUN_KEY, HASH_KEY, STORE_KEY = "sweeper_run", "sweeper_job", "sweeper_store"
"""What the cluster notes beside a job."""

_HASH_LENGTH = 12

_INTERPOLATION = re.compile(r"(\\*)\$\{")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job as it goes to a cluster."""

    run: str
    hash: str
    """Of the resolved job: the same job has the same wherever it is submitted from."""
    store: str
    text: str
    """The job file that the cluster runs."""

    def id(self, attempt: int) -> str:
        """Name of an attempt on the cluster, which takes each only once."""
        again = f"-{attempt}" if attempt > 1 else ""
        return f"{self.run}-{self.hash}{again}"

    @property
    def metadata(self) -> dict[str, str]:
        """What the cluster notes beside the job."""
        return {RUN_KEY: self.run, HASH_KEY: self.hash, STORE_KEY: self.store}


def submission(job: JobSpec) -> Submission:
    """Resolve a job for a cluster: it joins the Ray that runs it.

    Raises:
        UserError: the job names something that the cluster's nodes would look for elsewhere.
    """
    if job.cluster.executor != "ray":
        raise UserError(
            f"cluster.executor: {job.cluster.executor} is not allowed on a cluster; allowed is ray "
            "(cluster=auto)"
        )
    _require_shared(job)
    cluster = job.cluster.model_copy(update={"address": "auto"})
    resolved = job.model_copy(update={"cluster": cluster})
    return Submission(
        run=job.name,
        hash=content_hash(resolved.model_dump(mode="json"))[:_HASH_LENGTH],
        store=job.store,
        text=yaml.safe_dump(_literal(resolved.model_dump()), sort_keys=False, allow_unicode=True),
    )


def _require_shared(job: JobSpec) -> None:
    """A relative path means another place in the folder that the cluster unpacks the job in."""
    if "://" not in job.store and not Path(job.store).is_absolute():
        raise UserError(
            f"store: {job.store!r} lies on this machine; on a cluster allowed are s3://, gs://, "
            "or the absolute path of a folder that all its nodes share"
        )
    for name, spec in job.model.items():
        path = Path(spec.path)
        if not path.is_absolute() and (spec.path.startswith(".") or path.exists()):
            raise UserError(
                f"model.{name}.path: {spec.path!r} lies on this machine; on a cluster allowed are "
                "a hub repository, or an absolute path that all its nodes share"
            )
    folders = [*job.cluster.shared_folders, *([] if "://" in job.store else [job.store])]
    for key, file in _files(job):
        if os.path.isabs(file) and not any(Path(file).is_relative_to(at) for at in folders):
            raise UserError(
                f"{key}: {file!r} may lie on this machine only; on a cluster allowed are files "
                f"below the folders of cluster.shared_folders ({', '.join(folders) or 'none'})"
            )


def _files(job: JobSpec) -> Iterator[tuple[str, str]]:
    """Keys and local files or folders, made absolute when the job was read; or plain names."""
    for name, corpus in job.corpus.items():
        if isinstance(corpus, FileCorpus):
            yield f"corpus.{name}.path", corpus.path
    for name, task in job.suite.items():
        key = f"suite.{name}"
        if isinstance(task, MinimalPairsSpec) and isinstance(task.source, FilePairs):
            yield f"{key}.source.path", task.source.path
        elif isinstance(task, LmEvalSpec):
            yield from ((f"{key}.data_files.{split}", f) for split, f in task.data_files.items())
            yield f"{key}.task", task.task
        elif isinstance(task, SurprisalSpec) and not isinstance(task.tagger, HantaTagger):
            yield f"{key}.tagger.model", task.tagger.model


def _literal(content: Any) -> Any:
    """Text that looks like an interpolation, escaped: what is resolved holds none any more."""
    if isinstance(content, Mapping):
        return {key: _literal(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_literal(value) for value in content]
    if isinstance(content, str):
        return _INTERPOLATION.sub(lambda found: f"{found[1]}{found[1]}\\${{", content)
    return content
