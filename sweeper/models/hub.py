"""The Hugging Face hub: revisions to commits, and the files of a commit."""

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)

from sweeper.errors import UserError, first_line
from sweeper.models.evict import Lease, is_whole, repo_folder
from sweeper.models.fingerprint import (
    BIN,
    CODE,
    CONFIG,
    SAFETENSORS,
    TOKENIZER,
    tokenizer_files,
    weight_files,
)
from sweeper.spec.revisions import is_name

_TIMEOUT = 8.0
"""Seconds that the hub has for a sign of life before it counts as not reachable."""

_FETCHES = 3
"""Of files that are deleted meanwhile."""


class HubUnreachableError(Exception):
    """The hub gave no answer, and its local cache does not hold what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A repository at one commit, and its configuration."""

    commit: str
    config: dict[str, Any]
    cached: bool
    """Whether the hub was out of reach and the commit comes from the local hub cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRevisions:
    """Branches and tags of a repository."""

    commits: Mapping[str, str]
    """Name -> commit."""
    reason: str | None
    """Why the hub is out of reach, in one line, and these are from its local cache; None if they
    are from the hub."""


def find(repo: str, revision: str, *, code: bool = False, weights: bool = True) -> HubModel:
    """Resolve a branch, tag or commit and read the configuration; no weights are downloaded.

    Where the hub cannot be reached, what its local cache knows is taken, weights included if they
    are wanted.

    Raises:
        UserError: the hub knows no such repository, revision or configuration, or denies access.
        HubUnreachableError: no answer from the hub and not in the cache either.
    """
    reason = _reachable(repo, revision)
    try:
        commit = HfApi().resolve_revision(
            repo, revision=revision, local_files_only=reason is not None
        )
        config = hf_hub_download(
            repo, CONFIG, revision=commit.resolved, local_files_only=reason is not None
        )
        if reason is not None:
            _snapshot(repo, commit.resolved, code=code, weights=weights, local_files_only=True)
    except (RevisionResolutionError, LocalEntryNotFoundError, httpx2.TransportError) as error:
        raise HubUnreachableError(reason or first_line(error)) from error
    except (HfHubHTTPError, EntryNotFoundError) as error:
        raise _as_user_error(error, repo, revision) from error
    content = json.loads(Path(config).read_text())
    return HubModel(commit=commit.resolved, config=content, cached=reason is not None)


def revisions(repo: str) -> HubRevisions:
    """All branches and tags of a repository with their commits, by one request for all of them.

    Where the hub cannot be reached, those that its local cache knows.

    Raises:
        UserError: the hub knows no such repository, or denies access.
    """
    reason = _reachable(repo, None)
    if reason is not None:
        return HubRevisions(commits=_cached_revisions(repo), reason=reason)
    try:
        found = HfApi().list_repo_refs(repo)
    except httpx2.TransportError as error:
        return HubRevisions(commits=_cached_revisions(repo), reason=first_line(error))
    except HfHubHTTPError as error:
        raise _as_user_error(error, repo, "main") from error
    commits = {ref.name: ref.target_commit for ref in [*found.tags, *found.branches]}
    return HubRevisions(commits=commits, reason=None)


def has_commit(repo: str, commit: str) -> bool:
    """Whether the hub, which must be in reach, has a commit by its full hash."""
    try:
        return HfApi().model_info(repo, revision=commit, timeout=_TIMEOUT).sha == commit
    except (HfHubHTTPError, httpx2.TransportError):
        return False


def config_at(repo: str, commit: str) -> dict[str, Any]:
    """The configuration of a commit.

    Raises:
        UserError: there is none, access is denied, or the hub cannot be reached.
    """
    try:
        config = hf_hub_download(repo, CONFIG, revision=commit)
    except (LocalEntryNotFoundError, httpx2.TransportError) as error:
        raise UserError(f"path: {CONFIG} of {repo!r}: {first_line(error)}") from error
    except (HfHubHTTPError, EntryNotFoundError) as error:
        raise _as_user_error(error, repo, commit) from error
    content: dict[str, Any] = json.loads(Path(config).read_text())
    return content


def is_cached(repo: str, commit: str, *, code: bool = False) -> bool:
    """Whether the local cache has all files of a commit that loading needs."""
    try:
        _snapshot(repo, commit, code=code, local_files_only=True)
    except LocalEntryNotFoundError:
        return False
    return True


def fetch(
    repo: str, commit: str, *, name: str | None = None, code: bool = False, weights: bool = True
) -> Path:
    """Folder with the files of a commit that loading needs, downloaded where they are missing.

    Args:
        repo: the repository.
        commit: full hash.
        name: branch or tag that stands for the commit, for when the hub is out of reach.
        code: whether Python files are wanted, too.
        weights: whether the weights are; what little there is without them is never evicted.

    Raises:
        UserError: access is denied, the hub cannot be reached, or the commit holds no weights.
    """
    with Lease(repo, commit) as lease:
        if weights and not weight_files(repo_folder(repo) / "snapshots" / commit):
            lease.mark_fetched()
        for _ in range(_FETCHES):
            folder = _fetch(repo, commit, code=code, weights=weights)
            if is_whole(folder):
                break
    if name is not None and name != commit:
        _remember_revision(repo, name, commit)
    return folder


def _fetch(repo: str, commit: str, *, code: bool, weights: bool) -> Path:
    try:
        return _snapshot(repo, commit, code=code, weights=weights, local_files_only=False)
    except (LocalEntryNotFoundError, httpx2.TransportError) as error:
        raise UserError(
            f"path: the {'weights' if weights else 'files'} of {repo!r} at {commit} are not in the "
            f"local hub cache, and the hub cannot be reached: {first_line(error)}"
        ) from error
    except HfHubHTTPError as error:
        raise _as_user_error(error, repo, commit) from error


def hub_reachable() -> bool:
    """Whether the hub answers at all, to anybody."""
    try:
        httpx2.head(constants.ENDPOINT, timeout=_TIMEOUT, follow_redirects=True)
    except httpx2.TransportError:
        return False
    return not constants.HF_HUB_OFFLINE


def _reachable(repo: str, revision: str | None) -> str | None:
    """None if the hub answers for this revision (or any), otherwise why not, in one line."""
    try:
        HfApi().model_info(repo, revision=revision, timeout=_TIMEOUT)
    except (OfflineModeIsEnabled, httpx2.TransportError) as error:
        return first_line(error)
    except HFValidationError as error:
        raise UserError(
            f"path: {repo!r} is no local folder, no .gguf file and no name of a hub repository"
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise _as_user_error(error, repo, revision or "main") from error
        return first_line(error)
    return None


def _cached_revisions(repo: str) -> dict[str, str]:
    """Names that the local cache has commits for."""
    folder = repo_folder(repo) / "refs"
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_text().strip() for file in files}


def _remember_revision(repo: str, name: str, commit: str) -> None:
    """Leave the name of a cached commit where the hub's own tools keep it.

    Only once its files are there: to those tools a name without files is a damaged cache.
    """
    file = repo_folder(repo) / "refs" / name
    with suppress(OSError):  # nothing depends on it as long as the hub answers
        if is_name(name) and not (file.is_file() and file.read_text() == commit):
            aside = repo_folder(repo) / f".{uuid.uuid4().hex}.ref"
            aside.write_text(commit)
            file.parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside, file)


def _snapshot(
    repo: str, commit: str, *, code: bool, local_files_only: bool, weights: bool = True
) -> Path:
    common = [CONFIG, *TOKENIZER, *(CODE if code else ())]
    # Pickled files only where a revision has nothing else.
    for patterns in (SAFETENSORS, BIN) if weights else ((),):
        folder = Path(
            snapshot_download(
                repo,
                revision=commit,
                allow_patterns=[*common, *patterns],
                local_files_only=local_files_only,
            )
        )
        found = weight_files(folder) if weights else tokenizer_files(folder)
        if found:
            return folder
    lacking = f"neither {SAFETENSORS[0]} nor {BIN[0]}" if weights else f"no {TOKENIZER[0]}"
    raise LocalEntryNotFoundError(f"{lacking} at commit {commit}")


def _as_user_error(error: Exception, repo: str, revision: str) -> UserError:
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"revision: the hub repository {repo!r} has no revision {revision!r}")
    if isinstance(error, GatedRepoError):
        return UserError(
            f"path: access to the hub repository {repo!r} must be asked for on its page, "
            "and a token set with `hf auth login`"
        )
    if isinstance(error, RepositoryNotFoundError):
        return UserError(
            f"path: there is neither a local folder nor a hub repository {repo!r} "
            "(a private one needs `hf auth login`)"
        )
    if isinstance(error, EntryNotFoundError):
        return UserError(f"path: the hub repository {repo!r} has no {CONFIG} at {revision!r}")
    return UserError(f"path: the hub refuses {repo!r} at {revision!r}: {first_line(error)}")
