"""What parts of an analysis have counted, set aside in files so that it can be read by layers.

A part's rows come from the store all at once; of the others only one layer is in memory then.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sweeper.run.census_work import MissingPartError
from sweeper.store import Store


@dataclass(frozen=True, slots=True)
class PartStates:
    """The states of parts, by where they belong."""

    _files: Mapping[tuple[str, tuple[int, ...]], Path]

    def of(self, key: str, *place: int) -> bytes | None:
        """What a part has for a place (layer, or layer and n); None where it had no text."""
        file = self._files.get((key, place))
        return None if file is None else file.read_bytes()


@contextmanager
def part_states(
    address: str, table: str, by: Sequence[str], parts: Sequence[Mapping[str, Any]], what: str
) -> Iterator[PartStates]:
    """The states of parts, as long as the context lasts.

    Args:
        address: of the store.
        table: that holds them in its column ``state``.
        by: columns of whole numbers that tell a part's states apart.
        parts: as in ``Unit.analysis``.
        what: of which they are parts, for the message.

    Raises:
        MissingPartError: a part is not in the store.
    """
    store = Store(address)
    keys = list(dict.fromkeys(part["key"] for part in parts))
    missing = set(keys) - store.done_keys()
    if missing:
        raise MissingPartError(f"the store lacks {len(missing)} of {len(keys)} parts of the {what}")
    with TemporaryDirectory(prefix="sweeper-parts-") as folder:
        files: dict[tuple[str, tuple[int, ...]], Path] = {}
        for key in keys:
            found = store.table(table, [key], [*by, "state"])
            places = zip(*(found[column].to_pylist() for column in by), strict=True)
            for place, state in zip(places, found["state"], strict=True):
                file = Path(folder) / str(len(files))
                file.write_bytes(state.as_buffer())
                files[key, place] = file
        yield PartStates(files)
