"""What is measured."""

import os
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sweeper.spec.base import Allowed, Count, EntryName, FileText, Index, Strict, Text

Prefix = Literal["tokenizer", "bos", "none"]
"""Special tokens of a text. ``tokenizer``: those that the tokenizer itself adds. ``bos``: exactly
one BOS (EOS where the tokenizer has no BOS) in front, so that the first word is scored too, and
nothing behind. ``none``: none; the first token is then not scored."""


class WindowsSpec(Strict):
    """What every task over non-overlapping windows of a corpus says."""

    corpus: EntryName
    """Name of the corpus, a key of ``corpus``."""
    length: Annotated[int, Field(ge=2)] = 2048
    """Window length in tokens; cut to the model's context."""
    limit: Count | None = None
    """Number of windows; all when absent."""
    prefix: Prefix = "tokenizer"
    """The text is tokenised once, as the tokenizer does it; with ``bos`` every window begins with
    one, which takes one of its tokens."""
    keep_tokens: bool = False
    """Keep the surprisal of every token in the table ``tokens``. Only on request: about 6 bytes on
    disk for each token and condition (WikiText-2's test set: 1.8 MB a condition)."""


class PerplexitySpec(WindowsSpec):
    """Perplexity over non-overlapping windows of a corpus: exp(mean token NLL)."""

    kind: Literal["perplexity"] = "perplexity"


def _absolute_folder(model: str) -> str:
    """The name of an installed model stays; a folder becomes absolute for the workers."""
    return os.path.abspath(os.path.expanduser(model)) if os.sep in model else model


SpacyModel = Annotated[Text, AfterValidator(_absolute_folder)]
"""Name of an installed model of spaCy, or the folder of one (with a separator in it)."""


class AutoTagger(Strict):
    """The model of spaCy where it is installed, HanTa where it is not.

    Which one it is gets logged, noted beside every cell, and is part of the cell's key.
    """

    kind: Literal["auto"] = "auto"
    model: SpacyModel = "en_core_web_sm"


class SpacyTagger(Strict):
    """A model of spaCy; its words and its universal tags."""

    kind: Literal["spacy"] = "spacy"
    model: SpacyModel = "en_core_web_sm"


class HantaTagger(Strict):
    """HanTa's English model on words cut by this project, its tags mapped to universal ones."""

    kind: Literal["hanta"] = "hanta"


TaggerSpec = Annotated[AutoTagger | SpacyTagger | HantaTagger, Field(discriminator="kind")]


class SurprisalSpec(WindowsSpec):
    """Surprisal of tokens by the part of speech of the word that each belongs to."""

    kind: Literal["surprisal"] = "surprisal"
    tagger: TaggerSpec = AutoTagger()
    """What finds words and their universal parts of speech."""


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
    """Minimal pairs in the columns of a local Parquet, JSONL or CSV file; other columns are free.

    Pairs whose good or bad sentence is the text "None" are left out, as TSE's protocol wants it.
    """

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
    scores: Literal["sentences", "margins"] = "sentences"
    """``margins`` scores each pair from its first difference only, which is faster and gives the
    same margins; the sentences' own log-probabilities are then not known. Needs ``sum``."""
    prefix: Prefix = "tokenizer"
    keep_tokens: bool = False
    """Keep the surprisal of every scored token in the table ``tokens``."""
    limit: Count | None = None
    """Pairs per cluster, the first ones in file order; all when absent."""

    @model_validator(mode="after")
    def _margins_of_sums(self) -> Self:
        if self.scores == "margins" and self.reduce != "sum":
            raise ValueError("scores: margins needs reduce: sum (a mean does not cancel)")
        return self


def _absolute(task: str) -> str:
    """Files become absolute, since workers have working folders of their own."""
    is_file = task.endswith((".yaml", ".yml"))
    return os.path.abspath(os.path.expanduser(task)) if is_file else task


class LmEvalSpec(Strict):
    """A task of lm-evaluation-harness, with its own prompts, filters and metrics."""

    kind: Literal["lm_eval"] = "lm_eval"
    task: Annotated[Text, AfterValidator(_absolute)]
    """Name of a task, group or tag of the harness, or a local task file (``.yaml``)."""
    num_fewshot: Index | None = None
    """Examples in the prompt; absent: as the task says. A task that says 0 keeps it."""
    limit: Count | None = None
    """Documents of each task, the first ones; all when absent."""
    data_files: dict[Text, FileText] = Field(default_factory=dict)
    """Split -> local Parquet, JSONL or CSV file that is read in place of the task's dataset."""
    data_column: Text | None = None
    """Column of ``data_files`` that names the dataset's configuration: each task of a group then
    reads the rows that hold its own ``dataset_name``."""
    trust_task_code: bool = False
    """Run the Python code that a local task file names: functions, and metrics that are scripts.
    The harness's own tasks do not need it."""

    @model_validator(mode="after")
    def _column_of_files(self) -> Self:
        if self.data_column is not None and not self.data_files:
            raise ValueError("data_column is given without data_files; it names a column of them")
        return self


TaskSpec = Annotated[
    PerplexitySpec | SurprisalSpec | MinimalPairsSpec | LmEvalSpec, Field(discriminator="kind")
]
