"""The one class that names every path of a store and of a run."""

import re

from sweeper.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*")


def check_name(kind: str, name: str) -> str:
    """Return ``name`` if it can be part of a path.

    Raises:
        UserError: the name could leave the store or holds characters that object stores dislike.
    """
    # fullmatch, because "$" would let a trailing newline pass.
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{kind}: {name!r} is no valid name; allowed are 1 to 100 letters, digits, "
            "'_', '.' and '-', starting with a letter or digit"
        )
    return name


class Layout:
    """Names the files of a store.

    All methods but ``full`` give posix paths relative to the root, so that what they name
    means the same on machines that mount the store elsewhere. They raise UserError for a
    name that could lead out of the store.
    """

    version = "store.json"
    """Marks a folder as a store and says its schema version."""
    commits = "commits"
    """Folder of the commit markers."""
    runs = "runs"
    """Folder of the run folders."""
    job_name = "job.json"
    """Name of a run's job in its folder."""

    def __init__(self, root: str) -> None:
        self.root = root

    def full(self, relative: str) -> str:
        """Path of a file for the filesystem: the root and a relative path of this class.

        Raises:
            UserError: the path is absolute or has a part that is no valid name.
        """
        if not _PATH.fullmatch(relative):
            raise UserError(f"path: {relative!r} could lead out of the store")
        return f"{self.root.rstrip('/')}/{relative}"

    def table(self, table: str) -> str:
        """Folder of a table's Parquet files."""
        return f"tables/{check_name('table', table)}"

    def data_file(self, table: str, attempt: str) -> str:
        """Parquet file of what an attempt wrote into a table."""
        return f"{self.table(table)}/{check_name('attempt', attempt)}.parquet"

    def marker(self, attempt: str) -> str:
        """Commit marker of an attempt; its data count from the moment that this file exists."""
        return f"{self.commits}/{check_name('attempt', attempt)}.json"

    def pack(self, pack: str) -> str:
        """Commit marker of a pack: from then on the rows of its attempts are read from its files.

        The files themselves are those of an attempt of this name.
        """
        return f"{self.commits}/{check_name('pack', pack)}.pack.json"

    def run_folder(self, run: str) -> str:
        """Folder of a run."""
        return f"{self.runs}/{check_name('run', run)}"

    def job(self, run: str) -> str:
        """The validated job of a run, with all defaults."""
        return f"{self.run_folder(run)}/{self.job_name}"

    def checkpoints(self, run: str) -> str:
        """The resolved checkpoints of a run."""
        return f"{self.run_folder(run)}/checkpoints.json"

    def manifest(self, run: str) -> str:
        """The cells of a run with their names for people."""
        return f"{self.run_folder(run)}/manifest.parquet"

    def progress(self, run: str) -> str:
        """How far a run is, as its driver last said."""
        return f"{self.run_folder(run)}/progress.json"

    def driver(self, run: str) -> str:
        """Who drives a run now."""
        return f"{self.run_folder(run)}/driver.json"

    def estimates(self, run: str) -> str:
        """Estimates with intervals of a run."""
        return f"{self.run_folder(run)}/estimates.parquet"

    def contrasts(self, run: str) -> str:
        """Contrasts between conditions of a run."""
        return f"{self.run_folder(run)}/contrasts.parquet"

    def dynamics(self, run: str, result: str) -> str:
        """A result over training of a run."""
        return f"{self.run_folder(run)}/{check_name('result', result)}.parquet"

    def report(self, run: str) -> str:
        """Folder of a run's tables and figures."""
        return f"{self.run_folder(run)}/report"
