"""What is committed: all markers of a store, read once each, and the winner of every cell."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from sweeper.layout import Layout
from sweeper.store.filesystem import Files
from sweeper.store.marker import Marker, read_marker

NUM_THREADS = 16
"""Files read at once; object stores answer slowly but in parallel."""

_SUFFIX = ".json"


class Index:
    """The markers of a store as of the last ``refresh``; a marker never changes once written."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.markers: dict[str, Marker] = {}
        """Attempt -> its marker."""
        self.winners: dict[str, str] = {}
        """Cell key -> the attempt whose rows count."""

    def refresh(self) -> None:
        """Read the markers that are new.

        Raises:
            UserError: a file among the markers is none, or the store cannot be read.
        """
        listed = self._files.names(Layout.commits)
        names = [name.removesuffix(_SUFFIX) for name in listed if name.endswith(_SUFFIX)]
        if not self.markers.keys() <= set(names):
            # Someone deleted a commit: another attempt may win its cells.
            self.markers, self.winners = {}, {}
        new = [name for name in names if name not in self.markers]
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            read = list(pool.map(lambda name: read_marker(self._files, name), new))
        for marker in read:
            self._add(marker)

    def _add(self, marker: Marker) -> None:
        self.markers[marker.attempt] = marker
        for key in marker.cells:
            holder = self.winners.get(key)
            if holder is None or marker.rank(key) < self.markers[holder].rank(key):
                self.winners[key] = marker.attempt

    def attempts(self, table: str, keys: Collection[str] | None) -> dict[str, list[str]]:
        """Which files of a table are needed: attempt -> keys of the cells that it holds.

        ``keys`` picks cells, None all of them; keys that nobody committed are passed over.
        """
        wanted = self.winners.keys() if keys is None else self.winners.keys() & set(keys)
        needed: dict[str, list[str]] = {}
        for key in wanted:
            attempt = self.winners[key]
            if table in self.markers[attempt].files:
                needed.setdefault(attempt, []).append(key)
        return dict(sorted(needed.items()))
