"""Which revisions of a model there are, on the hub or in a folder, and all of them resolved."""

import difflib
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from sweeper.errors import UserError
from sweeper.models import hub
from sweeper.models.fingerprint import CONFIG
from sweeper.models.source import (
    Device,
    Source,
    as_checkpoint,
    errors_of,
    from_folder,
    is_local,
    local_path,
    on_hub,
    resolve,
    unreachable,
)
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec
from sweeper.spec.revisions import COMMIT, PYTHIA, expand, is_name, parse, step_of

MOST_NAMED = 8
"""Missing revisions that an error names; the others are counted."""

_log = logging.getLogger("sweeper")


def resolve_all(name: str, spec: ModelSpec, device: Device) -> tuple[Checkpoint, ...]:
    """All revisions of a model that the job asks for, in its order, without loading any.

    However many there are on the hub, it takes one request for their commits and one for a
    configuration; full commit hashes that no branch points to are asked for one by one. The files
    of local ones are hashed, where that was not done before.

    Raises:
        UserError: as :func:`sweeper.models.resolve`; revisions that do not exist, all in one line.
    """
    with errors_of(name):
        sources = _sources(spec)
        if sources is not None:
            return tuple(as_checkpoint(name, spec, device, source) for source in sources)
    return (resolve(name, spec, device),)


def _sources(spec: ModelSpec) -> list[Source] | None:
    """The revisions; None where the job does not ask for several."""
    if spec.random_weights is not None:
        return None
    if is_local(spec.path):
        folder = local_path(spec)
        wanted = _steps_inside(folder) if spec.revisions is None else spec.revisions
        return None if wanted is None else _in_folder(folder, spec, wanted)
    return None if spec.revisions is None else _on_hub(spec, spec.revisions)


def _steps_inside(folder: Path) -> list[str] | None:
    """Names of training steps in a folder that is no model itself."""
    if folder.suffix == ".gguf" or not folder.is_dir() or (folder / CONFIG).is_file():
        return None
    names = [n for n in _subfolders(folder) if is_name(n) and step_of(n) is not None]
    return sorted(names) or None


def _in_folder(folder: Path, spec: ModelSpec, wanted: str | list[str]) -> list[Source]:
    if not folder.is_dir():
        raise UserError(f"path: there is no folder {str(folder)!r}")
    existing = _subfolders(folder)
    names = _names(wanted, existing)
    _refuse_missing([name for name in names if name not in existing], existing, f"folder {folder}")
    return [
        from_folder(folder / name, spec, f"folder {folder / name}", revision=name) for name in names
    ]


def _subfolders(folder: Path) -> list[str]:
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return [path.name for path in visible if path.is_dir()]


def _on_hub(spec: ModelSpec, wanted: str | list[str]) -> list[Source]:
    found = hub.revisions(spec.path)
    if found.reason is not None and not found.commits:
        raise unreachable(spec, found.reason)
    names = _names(wanted, found.commits)
    commits = {name: found.commits.get(name, name) for name in names}
    unknown = [name for name in names if name not in found.commits]
    if found.reason is None:
        missing = [name for name in unknown if not _is_commit(spec, name, found)]
        where = f"the hub repository {spec.path!r}"
    else:
        code = spec.trust_remote_code
        missing = [
            name
            for name in names
            if (name in unknown and not COMMIT.fullmatch(name))
            or not hub.is_cached(spec.path, commits[name], code=code)
        ]
        where = f"the local cache of {spec.path!r} (the hub cannot be reached: {found.reason})"
    _refuse_missing(missing, [n for n in found.commits if n not in missing], where)
    config = hub.config_at(spec.path, commits[names[0]])
    cached = found.reason is not None
    if cached:
        _log.warning("model %s: the hub cannot be reached; from its local cache", spec.path)
    return [on_hub(spec, name, commits[name], config, cached=cached) for name in names]


def _is_commit(spec: ModelSpec, name: str, found: hub.HubRevisions) -> bool:
    """Whether what is neither branch nor tag is a commit of the repository."""
    if not COMMIT.fullmatch(name):
        return False
    return name in found.commits.values() or hub.has_commit(spec.path, name)


def _names(wanted: str | list[str], existing: Iterable[str]) -> list[str]:
    try:
        return expand(parse(wanted), existing)
    except ValueError as error:
        raise UserError(f"revisions: {error}") from error


def _refuse_missing(missing: Sequence[str], existing: Collection[str], where: str) -> None:
    """One line with the missing ones and their nearest neighbours.

    Raises:
        UserError: any is missing.
    """
    if not missing:
        return
    named = missing[:MOST_NAMED]
    more = f" and {len(missing) - len(named)} more" if missing[len(named) :] else ""
    near = dict.fromkeys(name for each in named for name in _nearest(each, existing))
    hint = f"; nearest of its {len(existing)}: {', '.join(near)}" if near else ""
    raise UserError(f"revisions: {where} lacks {', '.join(named)}{more}{hint}")


def _nearest(name: str, existing: Collection[str]) -> list[str]:
    """What was probably meant: the nearest step, or else a name that looks alike."""
    step = step_of(name)
    steps = {other: step_of(other) for other in existing}
    known = {other: number for other, number in steps.items() if number is not None}
    if step is not None and known:
        return [min(known, key=lambda other: (abs(known[other] - step), known[other]))]
    return difflib.get_close_matches(name, [*existing, PYTHIA], n=1)
