"""Pick out the minimal pairs that a clamp changes most, with their texts and tokens."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sweeper.report.data import CHECKPOINT, first_checkpoints, of_checkpoints
from sweeper.store import Store

NUM_EXAMPLES = 20
"""Pairs of each checkpoint, task and condition."""
BLOCK = [*CHECKPOINT, "task"]
ARM = [*BLOCK, "condition"]
EXAMPLE_COLUMNS = [
    *(*ARM, "item", "item_id", "group", "text", "text_bad"),
    *("baseline_margin", "margin", "change"),
]
TOKEN_COLUMNS = [
    *(*ARM, "item", "text", "position", "char_begin", "char_end"),
    *("baseline_surprisal", "surprisal"),
]
_TOKEN = ["item", "text", "position"]


def collect_examples(store: Store, manifest: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the pairs whose margin falls most against the baseline.

    Conditions that are drawn at random or repeated for groups of layers are left out, and
    checkpoints beyond the first few.

    Args:
        store: the store, refreshed.
        manifest: the run's cells.

    Returns:
        Pairs, the most changed one first in each condition (``EXAMPLE_COLUMNS``; texts are null in
        stores of versions that did not keep them); their tokens with the surprisal in nats without
        and with the clamp (``TOKEN_COLUMNS``), none where the job does not keep tokens.
    """
    scored = manifest[(manifest["kind"] == "score") & (manifest["task_kind"] == "minimal_pairs")]
    wanted = scored[scored["seed"].isna() & scored["first_layer"].isna()]
    shown, _ = first_checkpoints(wanted)
    examples, tokens = [], []
    for _, block in of_checkpoints(wanted, shown).groupby(BLOCK, sort=False):
        found = _of_block(store, block)
        examples += found
        tokens += [_tokens(store, rows) for rows in found]
    return _joined(examples, EXAMPLE_COLUMNS), _joined(tokens, TOKEN_COLUMNS)


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    some = [frame for frame in frames if not frame.empty]
    if not some:
        return pd.DataFrame(columns=columns)
    joined: pd.DataFrame = pd.concat(some, ignore_index=True)[columns]
    return joined


def _of_block(store: Store, block: pd.DataFrame) -> list[pd.DataFrame]:
    """The examples of each condition of one checkpoint and task."""
    baselines = block.loc[block["is_baseline"].astype(bool), "cell_key"]
    if baselines.empty:
        return []
    key = str(baselines.iloc[0])
    base = store.table("items", [key], ("item", "item_id", "group", "margin")).to_pandas()
    base = base.rename(columns={"margin": "baseline_margin"})
    texts = store.table("texts", [key], ("item", "text", "text_bad")).to_pandas()
    base = base.merge(texts, on="item", how="left")
    most = _most_changed(store, base, set(block["cell_key"]) - {key})
    return [
        most[arm["cell_key"]].assign(
            **{name: arm[name] for name in ARM}, key=arm["cell_key"], base_key=key
        )
        for arm in block.to_dict("records")
        if arm["cell_key"] in most
    ]


def _most_changed(store: Store, base: pd.DataFrame, keys: set[str]) -> dict[str, pd.DataFrame]:
    """Cell -> its examples; the items of few cells are in memory at once."""
    found: dict[str, pd.DataFrame] = {}
    for rows in store.stream("items", keys, ("cell_key", "item", "margin")):
        for key, margins in rows.to_pandas().groupby("cell_key", sort=False):
            both = base.merge(margins[["item", "margin"]], on="item")
            both["change"] = both["margin"] - both["baseline_margin"]
            found[str(key)] = both[both["change"] < 0].nsmallest(NUM_EXAMPLES, "change")
    return found


def _tokens(store: Store, examples: pd.DataFrame) -> pd.DataFrame:
    """Tokens of one condition's examples, without and with its clamp."""
    if examples.empty:
        return examples
    first = examples.iloc[0]
    columns = ("cell_key", *_TOKEN, "char_begin", "char_end", "surprisal")
    table = store.table("tokens", [first["key"], first["base_key"]], columns)
    wanted = pa.array(examples["item"], table.schema.field("item").type)
    rows = table.filter(pc.is_in(table["item"], wanted)).to_pandas()
    base = rows[rows["cell_key"] == first["base_key"]].drop(columns="cell_key")
    base = base.rename(columns={"surprisal": "baseline_surprisal"})
    clamped = rows.loc[rows["cell_key"] == first["key"], [*_TOKEN, "surprisal"]]
    both: pd.DataFrame = base.merge(clamped, on=_TOKEN)
    return both.assign(**{name: first[name] for name in ARM})
