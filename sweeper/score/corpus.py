"""Running text from the hub, from files, or from Python's own language reference."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.errors import UserError
from sweeper.score import hub, tables
from sweeper.spec.corpus import CorpusSpec, FileCorpus, HubCorpus, TopicsCorpus

TEXT_EXTENSIONS = (".txt", ".raw", ".md")
EXTENSIONS = (*TEXT_EXTENSIONS, *tables.EXTENSIONS)


def documents(spec: CorpusSpec, key: str = "corpus") -> list[str]:
    r"""Read the corpus' documents, empty ones included, in the order of the source.

    A text file's line ends become ``\n``; nothing else is changed.

    Args:
        spec: the corpus.
        key: the job's key of it, for messages.

    Raises:
        UserError: the source cannot be read, holds something other than text, or ends before
            ``skip``.
    """
    match spec:
        case HubCorpus():
            found = _hub_documents(spec, key)
        case FileCorpus():
            found = _file_documents(spec, key)
        case TopicsCorpus():
            found = _topics()
    stop = None if spec.limit is None else spec.skip + spec.limit
    chosen = found[spec.skip : stop]
    if not chosen:
        raise UserError(f"{key}.skip: {spec.skip} leaves none of the {len(found)} documents")
    for position, document in enumerate(chosen, start=spec.skip):
        if not isinstance(document, str):
            raise UserError(f"{key}.column: document {position} is {document!r}; allowed: text")
    return list(chosen)


def text(spec: CorpusSpec, key: str = "corpus") -> str:
    """Join the documents to one text.

    Raises:
        UserError: as ``documents``.
    """
    return spec.join.join(documents(spec, key))


def fingerprint(spec: CorpusSpec, key: str = "corpus") -> str:
    """``sha256:<hash of the text>``: equal for a hub dataset and a local copy of it.

    Raises:
        UserError: as ``documents``.
    """
    return fingerprint_of(text(spec, key))


def fingerprint_of(joined: str) -> str:
    """The fingerprint of a text that is at hand already."""
    return "sha256:" + hashlib.sha256(joined.encode()).hexdigest()


def check(spec: CorpusSpec, key: str) -> None:
    """Check that the corpus can be read, from headers and descriptions alone.

    A hub dataset's column and split are checked as far as its description names them.

    Raises:
        UserError: it cannot; the message begins with the job's key.
    """
    match spec:
        case HubCorpus():
            info = hub.describe(spec.path, spec.config, spec.revision, key)
            hub.require_split(info, spec.split, key)
            if info.features:
                columns = list(info.features)
                tables.require_column(spec.column, columns, f"{key}.column", repr(spec.path))
        case FileCorpus():
            _existing_file(spec, key)
        case TopicsCorpus():
            pass


def _existing_file(spec: FileCorpus, key: str) -> Path:
    file = tables.existing_file(spec.path, EXTENSIONS, f"{key}.path")
    if file.suffix.lower() not in TEXT_EXTENSIONS:
        columns = tables.column_names(file, f"{key}.path")
        tables.require_column(spec.column, columns, f"{key}.column", repr(spec.path))
    return file


def _file_documents(spec: FileCorpus, key: str) -> Sequence[Any]:
    file = _existing_file(spec, key)
    if file.suffix.lower() not in TEXT_EXTENSIONS:
        table = tables.read_columns(file, [spec.column], f"{key}.path")
        return list(table[spec.column])
    try:
        # Line ends become \n: WikiText's raw files come with either kind, and \r costs tokens.
        return [file.read_text(encoding="utf-8")]
    except UnicodeDecodeError as error:
        raise UserError(f"{key}.path: {spec.path!r} is not UTF-8 text ({error})") from error


def _hub_documents(spec: HubCorpus, key: str) -> Sequence[Any]:
    dataset = hub.load(spec.path, spec.config, spec.split, spec.revision, key)
    tables.require_column(spec.column, dataset.column_names, f"{key}.column", repr(spec.path))
    return list(dataset[spec.column])


def _topics() -> Sequence[Any]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]
