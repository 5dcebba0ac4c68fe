"""Running text: what the census reads and perplexity is measured on."""

from typing import Annotated, Literal

from pydantic import Field

from sweeper.spec.base import Allowed, Count, EntryName, FileText, Index, Strict, Text


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


Bins = Annotated[
    int,
    Field(ge=64, le=16384, multiple_of=8),
    Allowed("a multiple of 8 from 64 to 16384"),
]


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
    method: Literal["streaming", "exact"] = "streaming"
    """``streaming``: one pass over the text, a histogram for each neuron; WD with a bound on its
    error. ``exact``: activations are kept, as many layers at a time as ``memory_gb`` allows."""
    bins: Bins = 1024
    """Streaming: bins of a neuron's histogram. The bound of WD is about 3.6 / ``bins`` standard
    deviations; a neuron takes 5 bytes of memory for each bin."""
    pairs: Index = 16384
    """Pairs of tokens for the mapping difficulty MD; 0 leaves it out."""
    parts: Count | Literal["auto"] = "auto"
    """Streaming: units that the windows are divided into, which workers compute side by side."""
    memory_gb: Annotated[float, Field(gt=0)] = 4.0
    """Exact: most memory for kept activations; more passes over the text are made to stay below
    it."""
