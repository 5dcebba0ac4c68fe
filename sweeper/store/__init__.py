"""Results on disk or in an object store: written once, shown whole, queryable meanwhile."""

from sweeper.store.compaction import Compacted, compact
from sweeper.store.filesystem import open_filesystem
from sweeper.store.opening import NoStoreError
from sweeper.store.reader import Failure, Store, read_attempt
from sweeper.store.runs import RunFolder, list_runs
from sweeper.store.writer import Writer, new_attempt_name

__all__ = [
    "Compacted",
    "Failure",
    "NoStoreError",
    "RunFolder",
    "Store",
    "Writer",
    "compact",
    "list_runs",
    "new_attempt_name",
    "open_filesystem",
    "read_attempt",
]
