"""A limit on the disk space of what was fetched from the hub: what was not used for longest goes.

Each revision that sweeper fetches has a note beside the files, for all machines that share them.
Whoever reads the revision's files holds a lock on the note, which ends with the process, and the
note's date is that of the last use. A revision without a note was there before, or is somebody
else's: it stays.
"""

import fcntl
import json
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from huggingface_hub import HFCacheInfo, constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from huggingface_hub.file_download import repo_folder_name

_log = logging.getLogger("sweeper")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    path: Path
    repo: str
    commit: str
    used_ns: int


class Lease:
    """A revision that this process uses: while it is open, no process evicts the revision.

    Where no note can be kept (a hub cache that cannot be written, or knows no locks) it does
    nothing, and what is fetched there is never evicted.
    """

    def __init__(self, repo: str, commit: str) -> None:
        """Begin to use a revision, on this machine or about to be fetched."""
        self._content = json.dumps({"repo": repo, "commit": commit}).encode()
        path = _home() / f"{_folder_name(repo)}@{commit}"
        self._handle: int | None = None
        try:
            with _gate():
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                fcntl.flock(self._handle, fcntl.LOCK_SH)
            os.utime(self._handle)
        except OSError as error:
            _log.debug("no note of %s at %s: %s", repo, commit, error)

    def mark_fetched(self) -> None:
        """Note that the files are here because sweeper fetches them."""
        if self._handle is not None:
            with suppress(OSError):  # without its note it is never evicted
                os.pwrite(self._handle, self._content, 0)

    def close(self) -> None:
        """Use it no more."""
        if self._handle is not None:
            os.utime(self._handle)
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        """Use it for as long as a block lasts."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Use it no more."""
        self.close()


def repo_folder(repo: str) -> Path:
    """Where the hub's cache has a repository, if it has it."""
    return Path(constants.HF_HUB_CACHE) / _folder_name(repo)


def is_whole(folder: Path) -> bool:
    """Whether a revision that was just fetched has all its files, now and as long as it is leased.

    A deletion that began before they were all there may take what the revision shares with
    another one. One that begins later sees them, and leaves them.
    """
    with suppress(OSError), _gate():
        pass  # whoever deletes holds it to the end
    return all(path.exists() for path in folder.rglob("*"))


def evict(limit: float, ahead: Collection[str] = ()) -> list[str]:
    """Delete fetched revisions from the hub's cache until they take no more than a limit.

    Those that were not used for longest go first; none that a process uses, on whatever machine.

    Args:
        limit: bytes.
        ahead: commits that are still needed.

    Returns:
        Commits of the deleted revisions.

    Raises:
        OSError: the notes cannot be read or written.
    """
    with _gate():
        used = {path for path in _home().glob("*@*") if _is_used(path)}
        notes = sorted(_notes(), key=lambda note: note.used_ns)
        _finish([note for note in notes if note.path not in used])
        try:
            cache = scan_cache_dir(constants.HF_HUB_CACHE)
        except CacheNotFound:
            return []
        present = [note for note in notes if _is_present(cache, note)]
        absent = [note for note in notes if note not in present]
        _forget(cache, [note for note in absent if note.path not in used])
        free = [note for note in present if note.path not in used and note.commit not in ahead]
        seen = {note.path for note in present}
        starting = {path.name.rpartition("@")[0] for path in used - seen}
        return _delete(cache, _beyond(cache, present, free, limit), starting)


def _finish(notes: Sequence[_Note]) -> None:
    """Take away names of revisions that were deleted by a process which was killed meanwhile.

    To the hub's tools a repository with such a name is damaged, and they list nothing of it.
    """
    for note in notes:
        folder = repo_folder(note.repo)
        if not (folder / "snapshots" / note.commit).exists():
            for name in (folder / "refs").rglob("*"):
                if name.is_file() and name.read_text() == note.commit:
                    name.unlink()


def _beyond(
    cache: HFCacheInfo, notes: Sequence[_Note], free: Sequence[_Note], limit: float
) -> list[_Note]:
    """As many of the free ones, from the first on, as must go so that the rest fits."""
    gone = []
    for note in free:
        if _size(cache, [other for other in notes if other not in gone]) <= limit:
            break
        gone.append(note)
    return gone


def _forget(cache: HFCacheInfo, notes: Sequence[_Note]) -> None:
    """Drop notes of what others have deleted: if it comes back, it is not by us."""
    for note in notes:
        # A repository that could not be read may still have it.
        if _of_repo(cache, note.repo).repos or not repo_folder(note.repo).exists():
            os.truncate(note.path, 0)


def _delete(cache: HFCacheInfo, gone: Sequence[_Note], starting: Collection[str]) -> list[str]:
    """Delete revisions, but no whole repository into which a first file is being fetched."""
    deleted: list[str] = []
    for repo in {note.repo for note in gone}:
        notes = [note for note in gone if note.repo == repo]
        strategy = _of_repo(cache, repo).delete_revisions(*(note.commit for note in notes))
        if strategy.repos and _folder_name(repo) in starting:
            continue
        strategy.execute()
        for note in notes:
            os.truncate(note.path, 0)
            _log.info("deleted from the hub's cache: %s at %s", repo, note.commit)
            deleted.append(note.commit)
    return deleted


def _size(cache: HFCacheInfo, notes: Sequence[_Note]) -> int:
    """Bytes that deleting revisions would set free; what others share does not count."""
    return sum(
        _of_repo(cache, repo)
        .delete_revisions(*(note.commit for note in notes if note.repo == repo))
        .expected_freed_size
        for repo in {note.repo for note in notes}
    )


def _of_repo(cache: HFCacheInfo, repo: str) -> HFCacheInfo:
    """The cache without other repositories: a copy of one has the same commits."""
    mine = (r for r in cache.repos if r.repo_type == "model" and r.repo_id == repo)
    return replace(cache, repos=frozenset(mine))


def _is_present(cache: HFCacheInfo, note: _Note) -> bool:
    revisions = (
        revision for repo in _of_repo(cache, note.repo).repos for revision in repo.revisions
    )
    return any(revision.commit_hash == note.commit for revision in revisions)


def _notes() -> Iterator[_Note]:
    for path in _home().glob("*@*"):
        try:
            content = json.loads(path.read_bytes())
            repo, commit = str(content["repo"]), str(content["commit"])
        except (ValueError, LookupError, TypeError):  # blank: not fetched, or deleted again
            continue
        yield _Note(path=path, repo=repo, commit=commit, used_ns=path.stat().st_mtime_ns)


def _is_used(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def _gate() -> Iterator[None]:
    """One process at a time begins to use a revision, or deletes some."""
    _home().mkdir(parents=True, exist_ok=True)
    handle = os.open(_home() / "gate", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _home() -> Path:
    """Among the hub's own locks: elsewhere its tools would take the folder for a damaged model."""
    return Path(constants.HF_HUB_CACHE) / ".locks" / "sweeper"


def _folder_name(repo: str) -> str:
    return repo_folder_name(repo_id=repo, repo_type="model")
