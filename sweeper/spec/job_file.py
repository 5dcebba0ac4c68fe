"""The job file by itself: which options it names, and what it says in its own words."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeper.errors import UserError, first_line
from sweeper.spec.job import GROUPS
from sweeper.spec.wording import dotted, hint, one_line, shown

_OPENED = re.compile(r"(\\*)\$\{(?=(.*))", re.DOTALL)
_KEY_NAMED = re.compile(r"\s*[\w.\[\]-]+\s*\}")
"""What may stand behind ``${``."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job file before its options are put in."""

    path: Path
    options: Mapping[str, tuple[str, ...]]
    """Group -> options that its defaults list names."""
    said: Mapping[str, Any]
    """Its own keys; those of job files that it builds on lie beneath."""


def read_job_file(path: str | Path) -> JobFile:
    """Read a job file and the job files that its defaults list builds on.

    Raises:
        UserError: no such file, no YAML (with the line), or no mapping.
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        near = [other.name for other in file.parent.glob("*.yaml")]
        raise UserError(f"job file {path}: no such file{hint(file.name, near)}")
    if file.suffix != ".yaml":
        raise UserError(f"job file {path}: the ending {file.suffix!r} is not allowed; use .yaml")
    options: dict[str, tuple[str, ...]] = {}
    said = OmegaConf.create()
    with yaml_errors(file):
        for layer in _layers(file, frozenset()):
            defaults = layer.pop("defaults", None) or []
            options |= dict(_choices(defaults))
            said.merge_with(layer)
        return JobFile(file, options, as_data(said))


def resolve(data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the interpolations ``${key.below}`` by what they stand for: other keys of the job.

    Functions (``${oc.env:NAME}``) are refused: the file of a stranger could send the secrets of
    this environment into its own store.

    Raises:
        UserError: an interpolation that cannot be resolved, or a value that must be given.
    """
    _require_plain(data, ())
    with yaml_errors("job"):
        resolved = as_data(OmegaConf.create(dict(data)), resolve=True)
    missing = next(_mandatory(resolved, ()), None)
    if missing is not None:
        raise UserError(f"{missing}: missing; it must be given, as {missing}=VALUE")
    return resolved


def as_data(config: DictConfig, resolve: bool = False) -> dict[str, Any]:
    """A configuration as plain dictionaries and lists."""
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=resolve))


@contextmanager
def yaml_errors(where: str | Path) -> Iterator[None]:
    """Say in one line what is wrong with a file, or with a key of it."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark, reason = error.problem_mark, one_line(error.problem or "cannot be read")
        place = f"{mark.name}, line {mark.line + 1}" if mark else where
        raise UserError(f"{place}: no valid YAML: {reason}") from None
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or where}: {first_line(error)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{where}: cannot be read: {first_line(error)}") from None


def _layers(file: Path, above: frozenset[Path]) -> Iterator[DictConfig]:
    """The job files that a job file builds on, the lowest first, then itself."""
    content = OmegaConf.load(file)
    if not isinstance(content, DictConfig):
        raise UserError(f"{file}: holds a list; allowed is a mapping of keys")
    _require_text_keys(content, file)
    defaults = content.get("defaults", ListConfig([]))
    if not isinstance(defaults, ListConfig):
        raise UserError(f"defaults: {shown(defaults)} is not allowed; allowed is a list")
    for entry in defaults:
        base = file.parent / f"{entry}.yaml"
        if isinstance(entry, str) and base.is_file():
            if base in above | {file}:
                raise UserError(f"defaults: {entry!r} is not allowed; a job file built on itself")
            yield from _layers(base, above | {file})
    yield content


def _require_text_keys(content: DictConfig, file: Path) -> None:
    wrong = next((key for key in content if not isinstance(key, str)), None)
    if wrong is not None:
        raise UserError(f"{file}: the key {shown(wrong)} is not allowed; allowed is text")


def _choices(defaults: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Groups and options of a defaults list; its other entries are left to Hydra."""
    for entry in defaults:
        for key, choice in entry.items() if isinstance(entry, DictConfig) else ():
            group = str(key).split()[-1].lstrip("/")
            options = tuple(choice) if isinstance(choice, ListConfig) else (choice,)
            if not all(isinstance(option, str | None) for option in options):
                raise UserError(
                    f"defaults: {group}: {shown(choice)} is not allowed; "
                    "allowed is an option or a list of options"
                )
            if group in GROUPS and choice is not None:
                yield group, options


def _require_plain(data: Any, path: tuple[str, ...]) -> None:
    if isinstance(data, Mapping):
        for key, value in data.items():
            _require_plain(value, (*path, str(key)))
    elif isinstance(data, list):
        for value in data:
            _require_plain(value, path)
    elif isinstance(data, str):
        for backslashes, rest in _OPENED.findall(data):
            escaped = len(backslashes) % 2 == 1
            if not escaped and not _KEY_NAMED.match(rest):
                raise UserError(
                    f"{dotted(path)}: {shown(data)} is not allowed; between ${{ and }} allowed is "
                    "a key of the job, and nothing else"
                )


def _mandatory(data: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _mandatory(value, (*path, str(key)))
    elif data == "???":
        yield dotted(path)
