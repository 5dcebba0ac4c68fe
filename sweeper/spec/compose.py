"""From a job file, the groups of ``conf/`` and overrides to a checked job."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeper.spec.errors import first_of, problems_of
from sweeper.spec.job import JobSpec
from sweeper.spec.kinds import drop_stale
from sweeper.spec.model import ModelSpec


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


def compose_job(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The job of ``load_job`` as plain data, composed but not yet checked."""
    # Imported here because Hydra takes longer to load than all the models of a job, and most
    # users of this room need only the models.
    from sweeper.spec import job_file, options, overriding

    job = job_file.read_job_file(path)
    choices, changes = overriding.read(overrides)
    data = options.compose(job, choices)
    drop_stale(data, job.said, JobSpec)
    drop_stale(data, overriding.as_mapping(changes), JobSpec)
    overriding.apply(changes, data)
    return job_file.resolve(data)
