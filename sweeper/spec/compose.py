"""From a job file, the groups of ``conf/`` and overrides to a checked job."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sweeper.errors import UserError
from sweeper.spec.errors import first_of, problems_of
from sweeper.spec.job import JobSpec
from sweeper.spec.kinds import drop_stale
from sweeper.spec.model import ModelSpec
from sweeper.spec.training import TrainingJob


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> JobSpec:
    """Read a job file, put in its options and the overrides, and check the whole.

    Args:
        path: a ``.yaml`` file. A folder ``conf`` beside it or beside its folder adds options to
            those of the package and takes precedence.
        overrides: ``group=option``, ``group=[option,option]``, ``+group=option`` to add one,
            ``key.below=value``, ``~key.below`` to drop a key.

    Raises:
        UserError: one line that names what is wrong first.
    """
    return validate_job(compose_job(path, overrides))


def load_training(path: str | Path, overrides: Sequence[str] = ()) -> TrainingJob:
    """Read the job file of a training (``kind: training``), put in the overrides, and check it.

    Raises:
        UserError: one line that names what is wrong first.
    """
    data = compose_job(path, overrides, TrainingJob)
    try:
        return TrainingJob.model_validate(data)
    except ValidationError as error:
        raise first_of(problems_of(error, TrainingJob), data) from None


def validate_job(data: Mapping[str, Any]) -> JobSpec:
    """Check a job given as plain data.

    Raises:
        UserError: one line that names what is wrong first.
    """
    try:
        return JobSpec.model_validate(data)
    except ValidationError as error:
        raise first_of(problems_of(error, JobSpec), data) from None


def model_option(name: str) -> dict[str, ModelSpec] | None:
    """The models of an option of the package, by name; None where there is no such option.

    Raises:
        UserError: the option is not valid by itself, as ``local`` without its path.
    """
    from sweeper.spec import job_file, options

    files = {file.stem: file for file in (options.conf_folder() / "model").glob("*.yaml")}
    if name not in files:
        return None
    entries = job_file.resolve(job_file.read_job_file(files[name]).said)
    try:
        return {key: ModelSpec.model_validate(entry) for key, entry in entries.items()}
    except ValidationError as error:
        raise first_of(problems_of(error, ModelSpec), entries) from None


def compose_job(
    path: str | Path, overrides: Sequence[str] = (), root: type[BaseModel] = JobSpec
) -> dict[str, Any]:
    """The job of ``load_job`` as plain data, composed but not yet checked.

    Raises:
        UserError: a file that cannot be read, or that holds the other kind of job.
    """
    # Imported here because Hydra takes longer to load than all the models of a job, and most
    # users of this room need only the models.
    from sweeper.spec import job_file, options, overriding

    job = job_file.read_job_file(path)
    if root is JobSpec and job.said.get("kind") == "training":
        raise UserError(f"job file {path}: a training (kind: training), for `sweeper train`")
    if root is TrainingJob and "kind" not in job.said:
        raise UserError(f"job file {path}: a sweep (no kind: training), for `sweeper run`")
    choices, changes = overriding.read(overrides)
    data = options.compose(job, choices)
    drop_stale(data, job.said, root)
    drop_stale(data, overriding.as_mapping(changes), root)
    overriding.apply(changes, data)
    return job_file.resolve(data)
