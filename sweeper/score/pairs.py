"""Minimal pairs from the hub, from files, or from the project's own grammar."""

import hashlib
import json
import logging

import pandas as pd

from sweeper.errors import UserError
from sweeper.score import grammar, hub, tables
from sweeper.spec.task import Columns, FilePairs, GrammarPairs, HubPairs, MinimalPairsSpec
from sweeper.spec.wording import hint, listed

log = logging.getLogger(__name__)

COLUMNS = ("item", "item_id", "group", "cluster", "good", "bad")


def load_pairs(spec: MinimalPairsSpec, key: str = "suite") -> pd.DataFrame:
    """Read the task's pairs.

    Pairs without a sentence are dropped, and their number is logged: as information where it is the
    text "None", as the protocol of TSE wants it, and as a warning where it is null or empty.
    ``limit`` takes the first pairs of each cluster that are left; without a cluster column the
    first pairs of all.

    Args:
        spec: the task.
        key: the job's key of it, for messages.

    Returns:
        One row per pair: item (0, 1, ... in file order), item_id (``<cluster>/<id>``, unique),
        group, cluster, good, bad.

    Raises:
        UserError: the source cannot be read, lacks a column, or its pairs have no unique names.
    """
    rows = _source_rows(spec, key)
    pairs = _named(rows, spec.columns, key)
    kept = pairs[_has_sentences(pairs, key)]
    if spec.limit is not None:
        clustered = spec.columns.cluster is not None
        per_cluster = kept.groupby("cluster", sort=False) if clustered else kept
        kept = per_cluster.head(spec.limit)
    if kept.empty:
        raise UserError(f"{key}.source: no pairs in it")
    return kept.assign(item=range(len(kept)))[list(COLUMNS)].reset_index(drop=True)


def fingerprint(pairs: pd.DataFrame) -> str:
    """``sha256:<hash>`` of the pairs as ``load_pairs`` gives them: sentences, names and order."""
    content = json.dumps(pairs[list(COLUMNS)].to_numpy().tolist(), separators=(",", ":"))
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()


def check(spec: MinimalPairsSpec, key: str) -> None:
    """Check that the pairs can be read, from headers and descriptions alone.

    A hub dataset's columns and split are checked as far as its description names them.

    Raises:
        UserError: they cannot; the message begins with the job's key.
    """
    source = spec.source
    match source:
        case GrammarPairs():
            _require_columns(list(grammar.generate().columns), spec, key)
        case FilePairs():
            file = tables.existing_file(source.path, tables.EXTENSIONS, f"{key}.source.path")
            _require_columns(tables.column_names(file, f"{key}.source.path"), spec, key)
        case HubPairs():
            config = _configs(source, key)[0]
            info = hub.describe(source.path, config, source.revision, f"{key}.source")
            hub.require_split(info, source.split, f"{key}.source")
            if info.features:
                _require_columns(list(info.features), spec, key)


def _source_rows(spec: MinimalPairsSpec, key: str) -> pd.DataFrame:
    source = spec.source
    match source:
        case GrammarPairs():
            rows = grammar.generate()
            _require_columns(list(rows.columns), spec, key)
            return rows
        case FilePairs():
            check(spec, key)
            file = tables.existing_file(source.path, tables.EXTENSIONS, f"{key}.source.path")
            return tables.read_columns(file, _wanted(spec.columns), f"{key}.source.path")
        case HubPairs():
            return _hub_rows(source, spec, key)


def _hub_rows(source: HubPairs, spec: MinimalPairsSpec, key: str) -> pd.DataFrame:
    parts = []
    for config in _configs(source, key):
        part = hub.load(source.path, config, source.split, source.revision, f"{key}.source")
        _require_columns(part.column_names, spec, key)
        parts.append(part.select_columns(_wanted(spec.columns)).to_pandas())
    joined: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return joined


def _configs(source: HubPairs, key: str) -> list[str | None]:
    if source.configs is None:
        return [None]
    known = hub.config_names(source.path, source.revision, f"{key}.source")
    if source.configs == "all":
        return list(known)
    for name in source.configs:
        if name not in known:
            raise UserError(
                f"{key}.source.configs: {source.path!r} has no {name!r}; {listed(known)}"
                f"{hint(name, known)}"
            )
    return list(source.configs)


def _wanted(columns: Columns) -> list[str]:
    names = (columns.good, columns.bad, columns.cluster, columns.group, columns.id)
    return list(dict.fromkeys(name for name in names if name is not None))


def _require_columns(present: list[str], spec: MinimalPairsSpec, key: str) -> None:
    source = spec.source.kind if isinstance(spec.source, GrammarPairs) else repr(spec.source.path)
    for role, column in spec.columns.model_dump().items():
        if column is not None:
            tables.require_column(column, present, f"{key}.columns.{role}", source)


def _named(rows: pd.DataFrame, columns: Columns, key: str) -> pd.DataFrame:
    """Good, bad, group and cluster of each row, and its name in the task."""
    pairs = pd.DataFrame({"good": rows[columns.good], "bad": rows[columns.bad]}, dtype=object)
    pairs["group"] = "all" if columns.group is None else _names(rows, columns.group, key, "group")
    if columns.group is not None and "all" in set(pairs["group"]):
        raise UserError(
            f"{key}.columns.group: column {columns.group!r} has a group named 'all', which stands "
            "for every item; rename it"
        )
    if columns.cluster is None:
        position = pd.Series(range(len(rows)), index=rows.index)
    else:
        pairs["cluster"] = _names(rows, columns.cluster, key, "cluster")
        position = pairs.groupby("cluster", sort=False).cumcount()
    ids = position.map(str) if columns.id is None else _names(rows, columns.id, key, "id")
    pairs["item_id"] = ids if columns.cluster is None else pairs["cluster"] + "/" + ids
    if columns.cluster is None:
        pairs["cluster"] = pairs["item_id"]
    repeated = pairs["item_id"][pairs["item_id"].duplicated()]
    if len(repeated):
        raise UserError(
            f"{key}.columns.id: {columns.id!r} names {repeated.iloc[0]!r} twice; allowed: a column "
            "with other values for each pair of a cluster, or null for the position in the cluster"
        )
    return pairs


def _names(rows: pd.DataFrame, column: str, key: str, role: str) -> "pd.Series[str]":
    values = rows[column]
    missing = values.isna()
    if missing.any():
        raise UserError(
            f"{key}.columns.{role}: {column!r} is null in row {int(missing.to_numpy().argmax())}; "
            f"allowed: a column without nulls{'' if role == 'id' else ', or null for none'}"
        )
    return values.map(str)


def _has_sentences(pairs: pd.DataFrame, key: str) -> "pd.Series[bool]":
    lacking = pd.Series(False, index=pairs.index)
    none = lacking.copy()
    for role in ("good", "bad"):
        absent = pairs[role].isna()
        strange = ~absent & ~pairs[role].map(lambda value: isinstance(value, str))
        if strange.any():
            value = pairs[role][strange].iloc[0]
            raise UserError(f"{key}.columns.{role}: {value!r} is not text")
        lacking |= absent | (pairs[role] == "")
        none |= pairs[role] == "None"
    none &= ~lacking
    if lacking.any():
        log.warning("%s: %d of %d pairs lack a sentence", key, int(lacking.sum()), len(pairs))
    if none.any():
        log.info('%s: %d of %d pairs are dropped: "None"', key, int(none.sum()), len(pairs))
    return ~(lacking | none)
