"""Tagged words of a text, piece by piece; every piece is tagged once and kept in the cache."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweeper.models.cache import build_once, cache_folder
from sweeper.records import content_hash
from sweeper.score.pos.taggers import Tagger
from sweeper.score.pos.tags import UPOS, Words

PIECE = 2**16
"""Most characters of a piece: a few seconds of work."""

CUTTING = 1
"""Part of the name of a kept piece: a change of its columns raises it."""

_FILE = "words.parquet"


def tagged_words(text: str, stop: int, tagger: Tagger) -> Words:
    """Words of a text from its begin to ``stop``, and perhaps of a little more.

    Where the pieces end depends on the text alone, so that models with different tokenizers and
    tasks with different limits share them.

    Raises:
        UserError: as the tagger.
        OSError: the cache folder cannot be written.
    """
    parts = [_words(text[b:e], tagger).shifted(b) for b, e in pieces(text, PIECE) if b < stop]
    if not parts:
        return Words(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))
    return Words(
        np.concatenate([part.begins for part in parts]),
        np.concatenate([part.ends for part in parts]),
        np.concatenate([part.tags for part in parts]),
    )


def pieces(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Cut a text behind line ends; where a piece has none in its second half, behind a space."""
    begin = 0
    while begin < len(text):
        end = min(begin + size, len(text))
        if end < len(text):
            end = _last(text, begin + size // 2, end)
        yield begin, end
        begin = end


def _last(text: str, low: int, high: int) -> int:
    for mark in ("\n", " "):
        place = text.rfind(mark, low, high)
        if place >= 0:
            return place + 1
    return high


def _words(piece: str, tagger: Tagger) -> Words:
    folder = cache_folder() / "pos" / _key(piece, tagger)
    build_once(folder, lambda aside: _write(tagger.tag(piece), aside / _FILE))
    table = pq.read_table(folder / _FILE)
    begins, ends, tags = (table[name].to_numpy() for name in ("begin", "end", "tag"))
    return Words(begins, ends, tags)


def _key(piece: str, tagger: Tagger) -> str:
    ingredients = {
        "cutting": CUTTING,
        "tagger": dict(tagger.identity),
        "tags": list(UPOS),
        "text": hashlib.sha256(piece.encode()).hexdigest(),
    }
    return content_hash(ingredients)


def _write(words: Words, file: Path) -> None:
    columns = {"begin": words.begins, "end": words.ends, "tag": words.tags}
    pq.write_table(pa.table(columns), file, compression="zstd")
