"""What a machine remembers between runs: small files of numbers in the cache folder."""

import json
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from sweeper.atomic import write_atomically
from sweeper.models import cache_folder
from sweeper.records import Checkpoint, content_hash


def read_numbers(file: Path) -> dict[str, float]:
    """The positive numbers of a file by name; what is missing or damaged is forgotten."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    known = content.items() if isinstance(content, dict) else ()
    return {key: value for key, value in known if _is_positive(value)}


def write_numbers(file: Path, numbers: Mapping[str, float]) -> None:
    """Replace the file, all at once.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(file, json.dumps(dict(numbers), indent=1).encode())


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


class BatchSizes:
    """Token positions that a forward pass had room for after memory ran out.

    By model, numerics and device. Kept in ``batch_sizes.json`` of the cache folder; delete that
    file to make workers try larger batches again.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Take a file; None for the one in the cache folder."""
        self._file = cache_folder() / "batch_sizes.json" if file is None else file

    def known(self, checkpoint: Checkpoint, device: str) -> int | None:
        """The remembered size; None where memory never ran out."""
        found = read_numbers(self._file).get(_key(checkpoint, device))
        return None if found is None else max(int(found), 1)

    def remember(self, checkpoint: Checkpoint, device: str, positions: int) -> None:
        """Note a size; a smaller one that another worker noted stays.

        Raises:
            OSError: the file cannot be written.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._file.with_name(f"{self._file.name}.lock")):
            numbers, key = read_numbers(self._file), _key(checkpoint, device)
            numbers[key] = min(numbers.get(key, positions), positions)
            write_numbers(self._file, numbers)


def _key(checkpoint: Checkpoint, device: str) -> str:
    return content_hash({**checkpoint.identity(), "device": device})
