"""Running text: what the census reads and perplexity is measured on."""

from typing import Annotated, Literal

from pydantic import Field

from sweeper.spec.base import Count, EntryName, FileText, Index, Strict, Text


class HubCorpus(Strict):
    """A column of a dataset on the hub."""

    kind: Literal["hub"] = "hub"
    path: Text
    """Dataset repository."""
    config: Text | None = None
    """Configuration name of the dataset."""
    split: Text
    revision: Text = "main"
    column: Text = "text"
    join: str = "\n\n"
    """What stands between the documents when they are joined to one text."""
    skip: Index = 0
    """Number of documents to leave out at the start."""
    limit: Count | None = None
    """Number of documents to read after those; all when absent."""


class FileCorpus(Strict):
    """A local text file (one document a file), or one column of a Parquet, JSONL or CSV file."""

    kind: Literal["file"] = "file"
    path: FileText
    column: Text = "text"
    """Column with the text; plain text files (.txt, .raw, .md) have none."""
    join: str = "\n\n"
    skip: Index = 0
    """Number of documents to leave out at the start."""
    limit: Count | None = None
    """Number of documents to read after those; all when absent."""


class TopicsCorpus(Strict):
    """The language reference that Python carries (``pydoc_data.topics``): 0.6 MB of English."""

    kind: Literal["topics"] = "topics"
    join: str = "\n\n"
    skip: Index = 0
    """Number of documents to leave out at the start."""
    limit: Count | None = None
    """Number of documents to read after those; all when absent."""


CorpusSpec = Annotated[HubCorpus | FileCorpus | TopicsCorpus, Field(discriminator="kind")]


class CensusSpec(Strict):
    """How the per-neuron statistics are gathered."""

    corpus: EntryName
    """Name of the corpus, a key of ``corpus``."""
    length: Annotated[int, Field(ge=2)] = 2048
    """Window length in tokens; cut to the model's context."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of a window that the next one repeats."""
    windows: Count = 256
    """Number of windows; fewer when the corpus ends before."""
    memory_gb: Annotated[float, Field(gt=0)] = 4.0
    """Most memory for kept activations; more passes over the text are made to stay below it."""
