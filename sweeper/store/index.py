"""What is committed: all markers of a store, read once each, and the winner of every cell."""

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from sweeper.layout import Layout
from sweeper.store.filesystem import Files
from sweeper.store.marker import Marker, Pack, VanishedError, read_marker, read_pack

NUM_THREADS = 16
"""Files read at once; object stores answer slowly but in parallel."""
PIECE_ROWS = 1_000_000
"""Rows of a pack that are read at once, unless one attempt has more."""

_MARKER, _PACK = ".json", ".pack.json"
_RETRIES = 3
"""Listings that a deletion may overtake."""

Needed = Mapping[str, Collection[str] | None]
"""Attempt -> keys of the wanted cells; None where all of them are wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Rows of one or more attempts that stand together in a file."""

    start: int
    stop: int
    keys: tuple[str, ...] | None
    """Cells whose rows are wanted; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of one file that is read at once."""

    path: str
    total: int
    """Rows of the whole file."""
    spans: tuple[Span, ...]
    """In the order of the file."""
    needed: Needed
    """What the rows are for, so that they can be sought again where the file is gone."""

    @property
    def num_rows(self) -> int:
        """Rows of all spans."""
        return sum(span.stop - span.start for span in self.spans)


class Index:
    """The markers of a store as of the last ``refresh``; a marker never changes once written.

    An attempt is where its own marker says, or in a pack, or both for a while: it is one attempt
    all the same, and is read from the pack, of several from the one with the last name.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._fill((), ())

    def _fill(self, packs: Iterable[Pack], markers: Iterable[Marker]) -> None:
        """Begin anew with what was read."""
        self.markers: dict[str, Marker] = {}
        """Attempt -> its marker."""
        self.winners: dict[str, str] = {}
        """Cell key -> the attempt whose rows count."""
        self.packs: dict[str, Pack] = {}
        self.packed: dict[str, str] = {}
        """Attempt -> the pack that it is read from."""
        self._starts: dict[tuple[str, str], dict[str, int]] = {}
        self._extend(packs, markers)

    def _extend(self, packs: Iterable[Pack], markers: Iterable[Marker]) -> None:
        for pack in packs:
            self._add_pack(pack)
        for marker in markers:
            self._add(marker)

    def refresh(self) -> None:
        """Read the markers that are new: one listing, then each of them once.

        What cannot be read leaves everything as it was.

        Raises:
            UserError: a file among the markers is none, or the store cannot be read.
        """
        for _ in range(_RETRIES):
            try:
                return self._refresh()
            except VanishedError:
                continue
        self._refresh()

    def _refresh(self) -> None:
        listed = self._files.names(Layout.commits)
        packs = {name.removesuffix(_PACK) for name in listed if name.endswith(_PACK)}
        names = {name.removesuffix(_MARKER) for name in listed if name.endswith(_MARKER)}
        names -= {f"{name}.pack" for name in packs}
        new_packs = _in_parallel(self._read_pack, sorted(packs - self.packs.keys()))
        taken = {marker.attempt for pack in new_packs for marker in pack.attempts}
        new = sorted(names - self.markers.keys() - taken)
        markers = _in_parallel(lambda name: read_marker(self._files, name), new)
        taken |= names | self.packed.keys()
        if self.packs.keys() <= packs and self.markers.keys() <= taken:
            self._extend(new_packs, markers)
        else:
            # Someone deleted a pack or a commit: another attempt may win its cells.
            left = [pack for name, pack in self.packs.items() if name in packs]
            own = [marker for name, marker in self.markers.items() if name in names]
            self._fill([*left, *new_packs], [*own, *markers])

    def _read_pack(self, name: str) -> Pack:
        return read_pack(self._files, name)

    def _add_pack(self, pack: Pack) -> None:
        self.packs[pack.pack] = pack
        for marker in pack.attempts:
            if marker.attempt not in self.markers:
                self._add(marker)
            held = self.packed.get(marker.attempt)
            if held is None or held < pack.pack:
                self.packed[marker.attempt] = pack.pack

    def _add(self, marker: Marker) -> None:
        self.markers[marker.attempt] = marker
        for key in marker.cells:
            holder = self.winners.get(key)
            if holder is None or marker.rank(key) < self.markers[holder].rank(key):
                self.winners[key] = marker.attempt

    def file_of(self, attempt: str) -> str:
        """Name of the files that hold an attempt's rows."""
        return self.packed.get(attempt, attempt)

    def attempts(self, table: str, keys: Collection[str] | None) -> dict[str, list[str]]:
        """Which attempts at a table are needed: attempt -> keys of the cells that it holds.

        ``keys`` picks cells, None all of them; keys that nobody committed are passed over.
        """
        wanted = self.winners.keys() if keys is None else self.winners.keys() & set(keys)
        needed: dict[str, list[str]] = {}
        for key in wanted:
            attempt = self.winners[key]
            if table in self.markers[attempt].files:
                needed.setdefault(attempt, []).append(key)
        return dict(sorted(needed.items()))

    def pieces(self, table: str, keys: Collection[str] | None) -> list[Piece]:
        """What to read for the rows of some cells, or of all."""
        return self.locate(
            table,
            {
                attempt: None if len(found) == len(self.markers[attempt].cells) else found
                for attempt, found in self.attempts(table, keys).items()
            },
        )

    def locate(self, table: str, needed: Needed) -> list[Piece]:
        """Where the rows of attempts are, cut into pieces of some length.

        Raises:
            KeyError: an attempt is not committed, or has no rows in the table.
        """
        by_file: dict[str, list[str]] = {}
        for attempt in needed:
            by_file.setdefault(self.file_of(attempt), []).append(attempt)
        return [
            self._piece(table, file, {attempt: needed[attempt] for attempt in part})
            for file, attempts in by_file.items()
            for part in self._parts(table, file, attempts)
        ]

    def _parts(self, table: str, file: str, attempts: list[str]) -> Iterable[list[str]]:
        part: list[str] = []
        rows = 0
        for attempt in sorted(attempts, key=lambda attempt: self._start(table, file, attempt)):
            more = self.markers[attempt].files[table]
            if part and rows + more > PIECE_ROWS:
                yield part
                part, rows = [], 0
            part.append(attempt)
            rows += more
        yield part

    def _piece(self, table: str, file: str, needed: Needed) -> Piece:
        spans: list[Span] = []
        for attempt, keys in needed.items():
            start = self._start(table, file, attempt)
            stop = start + self.markers[attempt].files[table]
            if spans and keys is None and spans[-1].keys is None and spans[-1].stop == start:
                spans[-1] = Span(start=spans[-1].start, stop=stop, keys=None)
            else:
                spans.append(
                    Span(start=start, stop=stop, keys=None if keys is None else tuple(keys))
                )
        pack = self.packs.get(file)
        total = spans[0].stop if pack is None else pack.files[table]
        path = self._files.layout.data_file(table, file)
        return Piece(path=path, total=total, spans=tuple(spans), needed=needed)

    def _start(self, table: str, file: str, attempt: str) -> int:
        if file not in self.packs:
            return 0
        place = (file, table)
        if place not in self._starts:
            self._starts[place] = self.packs[file].starts(table)
        return self._starts[place][attempt]


Commit = TypeVar("Commit", Marker, Pack)


def _in_parallel(read: Callable[[str], Commit], names: Collection[str]) -> list[Commit]:
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(pool.map(read, names))
