"""What is measured."""

from typing import Annotated, Literal

from pydantic import Field

from sweeper.spec.base import Allowed, Count, EntryName, FileText, Strict, Text


class PerplexitySpec(Strict):
    """Perplexity over non-overlapping windows of a corpus: exp(mean token NLL)."""

    kind: Literal["perplexity"] = "perplexity"
    corpus: EntryName
    """Name of the corpus, a key of ``corpus``."""
    length: Annotated[int, Field(ge=2)] = 2048
    """Window length in tokens; cut to the model's context."""
    limit: Count | None = None
    """Number of windows; all when absent."""


ConfigNames = Annotated[list[Text], Field(min_length=1), Allowed("a list of names")]


class HubPairs(Strict):
    """Minimal pairs in the columns of a dataset on the hub."""

    kind: Literal["hub"] = "hub"
    path: Text
    configs: Literal["all"] | ConfigNames | None = None
    """Configurations to join (BLiMP has one per paradigm); absent: the only one."""
    split: Text = "train"
    revision: Text = "main"


class FilePairs(Strict):
    """Minimal pairs in the columns of a local Parquet, JSONL or CSV file."""

    kind: Literal["file"] = "file"
    path: FileText


class GrammarPairs(Strict):
    """The suite that this project generates from its own templates."""

    kind: Literal["grammar"] = "grammar"


class Columns(Strict):
    """Names of the columns that hold a pair."""

    good: Text = "sentence_good"
    """The acceptable sentence."""
    bad: Text = "sentence_bad"
    """The unacceptable sentence."""
    cluster: Text | None = "UID"
    """What items are clustered by in the statistics: the paradigm or template."""
    group: Text | None = "linguistics_term"
    """What estimates are also given for separately: the phenomenon."""
    id: Text | None = "pair_id"
    """Identifier of the pair inside its cluster; absent: its position in the cluster."""


class MinimalPairsSpec(Strict):
    """Share of pairs whose acceptable sentence has the higher log-probability, strictly."""

    kind: Literal["minimal_pairs"] = "minimal_pairs"
    source: Annotated[HubPairs | FilePairs | GrammarPairs, Field(discriminator="kind")]
    columns: Columns = Columns()
    reduce: Literal["sum", "mean"] = "sum"
    """Log-probability of a sentence: summed over tokens, or their mean."""
    limit: Count | None = None
    """Pairs per cluster, the first ones in file order; all when absent."""


TaskSpec = Annotated[PerplexitySpec | MinimalPairsSpec, Field(discriminator="kind")]
