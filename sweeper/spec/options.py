"""The options of ``conf/``, put together with a job file by Hydra."""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException

from sweeper.errors import UserError
from sweeper.spec.job import GROUPS
from sweeper.spec.job_file import JobFile, as_data, yaml_errors
from sweeper.spec.overriding import Choice
from sweeper.spec.wording import hint, listed, one_line

_PACKAGE = Path(__file__).resolve().parents[1]
_LOCK = threading.RLock()
"""Hydra keeps its state in one global object."""


def conf_folder() -> Path:
    """The folder with the options of this package: in the package, or beside it in a checkout."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def compose(job: JobFile, choices: Sequence[Choice]) -> dict[str, Any]:
    """Put the options that the job file and the choices name together with the file's own keys.

    What the file says about entries of options that the choices leave out is left out as well.

    Returns:
        Plain data; interpolations are not yet resolved.

    Raises:
        UserError: an option or a group that does not exist, or a broken option file.
    """
    chosen = _choose(choices, job.options)
    overrides = [
        f"{'' if group in job.options else '+'}{group}=[{','.join(options)}]"
        for group, options in chosen.items()
    ]
    with _LOCK, _hydra_errors(job), _hydra_at(job.path.parent):
        data = _compose(job.path.name, job, overrides)
        for group in chosen.keys() - {"cluster"}:
            left_out = [name for name in job.options.get(group, ()) if name not in chosen[group]]
            gone = _entries(group, left_out, job) - _entries(group, chosen[group], job)
            data[group] = {name: entry for name, entry in data[group].items() if name not in gone}
    return data


def _choose(
    choices: Sequence[Choice], written: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Later choices of a group replace earlier ones, or add to them."""
    final: dict[str, tuple[str, ...]] = {}
    for choice in choices:
        kept = final.get(choice.group, written.get(choice.group, ())) if choice.add else ()
        final[choice.group] = tuple(dict.fromkeys((*kept, *choice.options)))
    return final


def _compose(name: str | None, job: JobFile, overrides: Sequence[str]) -> dict[str, Any]:
    folders = ",".join(_quoted(folder) for folder in _folders(job))
    return as_data(hydra_compose(name, [f"hydra.searchpath=[{folders}]", *overrides]))


def _entries(group: str, options: Sequence[str], job: JobFile) -> set[str]:
    """Names of the entries that options bring in."""
    if not options:
        return set()
    return set(_compose(None, job, [f"+{group}=[{','.join(options)}]"])[group])


def _folders(job: JobFile) -> list[Path]:
    """Where options are looked for, the first place first."""
    near = job.path.parent
    folders = [near / "conf", near.parent / "conf", conf_folder()]
    return list({folder.resolve(): None for folder in folders if folder.is_dir()})


def _quoted(folder: Path) -> str:
    escaped = str(folder).replace("'", "\\'")
    return f"'{escaped}'"


@contextmanager
def _hydra_at(folder: Path) -> Iterator[None]:
    """Hydra's global state set up for a folder; a program's own use of Hydra is put back."""
    state = GlobalHydra.instance()
    outer, state.hydra = state.hydra, None
    try:
        with (
            initialize_config_dir(str(folder), job_name="sweeper", version_base="1.3"),
            warnings.catch_warnings(),
        ):
            # Without `_self_` the job file wins over its options, which is what a job means.
            warnings.filterwarnings("ignore", message=".*missing `_self_`")
            yield
    finally:
        GlobalHydra.instance().hydra = outer


@contextmanager
def _hydra_errors(job: JobFile) -> Iterator[None]:
    with yaml_errors(job.path):
        try:
            yield
        except MissingConfigException as error:
            raise _missing_option(str(error.missing_cfg_file), job) from None
        except HydraException as error:
            raise UserError(f"{job.path}: {one_line(str(error))}") from None


def _missing_option(wanted: str, job: JobFile) -> UserError:
    group, _, option = wanted.rpartition("/")
    if group in GROUPS:
        folders = (folder / group for folder in (job.path.parent, *_folders(job)))
        options = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
        return UserError(f"{group}: no option {option!r}; {listed(options)}{hint(option, options)}")
    if group:
        return UserError(f"defaults: no group {group!r}; {listed(GROUPS)}{hint(group, GROUPS)}")
    near = sorted(file.stem for file in job.path.parent.glob("*.yaml"))
    return UserError(f"defaults: no job file {option!r} to build on{hint(option, near)}")
