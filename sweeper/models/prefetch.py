"""The files of the checkpoint that a worker uses, and of the one that it will load next.

While one checkpoint computes, a thread fetches the next one and reads its weights once, so that
they lie in the system's file cache when it is their turn. It builds no second model: what it reads
takes memory that the system gives back to whoever asks for it, and it reads nothing that is larger
than half of what is free. Its failures are left to the real load, which meets them again.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pydantic import TypeAdapter

from sweeper.models.evict import evict
from sweeper.models.fingerprint import weight_files
from sweeper.models.source import leased_folder
from sweeper.records import Checkpoint, Outlook
from sweeper.spec.model import ModelSpec

PIECE_BYTES = 8 << 20
"""Read at a time; between two pieces the thread sees whether it is still wanted."""

SHARE_OF_FREE = 0.5
"""Of the free memory, how much the files read ahead may take."""

_log = logging.getLogger("sweeper")


class CheckpointFiles:
    """What a worker has of checkpoints on its machine; nothing of it is evicted by others."""

    def __init__(self, free_bytes: Callable[[], float]) -> None:
        """Begin with none.

        Args:
            free_bytes: says how much memory is free.
        """
        self._free_bytes = free_bytes
        self._current: Checkpoint | None = None
        self._held, self._near = ExitStack(), ExitStack()
        self._thread: threading.Thread | None = None
        self._outlook = Outlook()
        self._prepared: tuple[Checkpoint | None, Checkpoint | None] = (None, None)
        self._unwanted = threading.Event()

    def folder(self, checkpoint: Checkpoint, spec: ModelSpec) -> Path:
        """Folder with the files of the checkpoint that is loaded now; the one before is left.

        Raises:
            UserError: as :func:`sweeper.models.weights_folder`.
        """
        if self._is_busy() and self._outlook.next_checkpoint == checkpoint:
            self.wait()
        self._unwanted.set()
        self._current = checkpoint
        with self._held:
            self._held = ExitStack()
            return self._held.enter_context(leased_folder(checkpoint, spec))

    def look_ahead(self, outlook: Outlook) -> None:
        """Make room on the disk and bring the next checkpoint near, in a thread of its own.

        Nothing happens where that was done before, or is still going on.
        """
        wanted = (self._current, outlook.next_checkpoint)
        idle = outlook.next_checkpoint is None and outlook.cache_gb is None
        if idle or self._is_busy() or wanted == self._prepared:
            return
        self._prepared, self._outlook = wanted, outlook
        self._unwanted.clear()
        self._near.close()
        # A process that ends does not wait for a download.
        self._thread = threading.Thread(target=self._prepare, args=[outlook], daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Let what goes on in the background end."""
        if self._thread is not None:
            self._thread.join()

    def _is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _prepare(self, outlook: Outlook) -> None:
        checkpoint = outlook.next_checkpoint
        try:
            if outlook.cache_gb is not None:
                _evict(outlook.cache_gb * 1e9, outlook.ahead)
            if checkpoint is not None:
                spec = TypeAdapter(ModelSpec).validate_python(outlook.next_model)
                # Until the next time: what is brought near must still be there when it is used.
                folder = self._near.enter_context(leased_folder(checkpoint, spec))
                if spec.random_weights is None:
                    self._read(folder)
        except Exception as error:
            _log.info("nothing could be prepared ahead: %s: %s", type(error).__name__, error)

    def _read(self, folder: Path) -> None:
        """Read the weights from the disk, if there is memory to keep them."""
        files = weight_files(folder)
        if sum(file.stat().st_size for file in files) > SHARE_OF_FREE * self._free_bytes():
            return
        for file in files:
            with file.open("rb", buffering=0) as stream:
                while not self._unwanted.is_set() and stream.read(PIECE_BYTES):
                    pass


def _evict(limit: float, ahead: frozenset[str]) -> None:
    """A limit that cannot be kept stops no work, but is said aloud."""
    try:
        evict(limit, ahead)
    except OSError as error:
        _log.warning("cluster.cache_gb: nothing can be deleted from the hub's cache: %s", error)
