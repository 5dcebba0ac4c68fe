"""Logs of single documents that lm-evaluation-harness writes: ``samples_TASK_DATE.jsonl``.

A log is read twice: once to be checked and hashed, and again when its rows go into the store, so
that a folder of any size needs the memory of one file.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from sweeper.records import NO_FILTER

MEANS = ("acc", "acc_norm", "acc_bytes", "exact_match", "em", "pct_stereotype")
"""Metrics known to be means over documents, for logs without an aggregated file beside them."""
_FACTS = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash", "schema", "prompt_0", "logit_0", "truth"),
}
"""Keys of a line that are no metrics, for versions that do not list the metrics."""

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFile:
    """A log that was read and found right."""

    path: Path
    task: str
    """The harness's name."""
    num_items: int
    digest: str
    """Hash of the documents and what is kept of them."""
    means: Mapping[str, float]
    """Mean over documents of every metric that all of them have, by ``metric,filter``."""

    def tables(self, averaged: Mapping[str, bool]) -> dict[str, pd.DataFrame]:
        """Rows of ``items`` and ``outcomes``.

        Args:
            averaged: for every key of ``means``, whether the harness takes the mean.

        Raises:
            ValueError: the file is not the one that was read first.
        """
        log = _Log.read(self.path, self.task)
        if log.digest() != self.digest:
            raise ValueError("it has changed since it was read first")
        return log.tables(averaged)


def read_samples(path: Path, task: str) -> SampleFile:
    """Check a log.

    Raises:
        ValueError: it cannot be read, a line is no log of a document, or a document stands twice.
    """
    log = _Log.read(path, task)
    return SampleFile(
        path=path, task=task, num_items=len(log.items), digest=log.digest(), means=log.means()
    )


@dataclass(slots=True)
class _Log:
    """What is kept of a log's lines."""

    task: str
    items: dict[str, dict[str, Any]]
    """Item id -> row of the table ``items``."""
    values: dict[str, dict[str, float]]
    """``metric,filter`` -> item id -> value."""

    @classmethod
    def read(cls, path: Path, task: str) -> "_Log":
        log = cls(task, {}, {})
        for number, line in _lines(path):
            try:
                log._add(line)
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else error
                raise ValueError(f"line {number}: {reason}") from error
        if not log.items:
            raise ValueError("it holds no document")
        log._drop_false_margins()
        return log

    def _add(self, line: Line) -> None:
        item_id = self._item_id(line)
        chosen = str(line.get("filter") or NO_FILTER)
        metrics = _metrics(line)
        "".join((item_id, chosen, *metrics)).encode()  # a lone surrogate would fail in the store
        for name, value in metrics.items():
            of_metric = self.values.setdefault(f"{name},{chosen}", {})
            if item_id in of_metric:
                raise ValueError(f"document {line['doc_id']} stands twice (filter {chosen})")
            of_metric[item_id] = value
        if item_id not in self.items:
            acc = metrics.get("acc")
            logprob, logprob_bad = _sides(line)
            self.items[item_id] = {
                "item": int(line["doc_id"]),
                "item_id": item_id,
                # Documents are drawn one by one, so each is a cluster of its own.
                "group": self.task,
                "cluster": item_id,
                "logprob": logprob,
                "logprob_bad": logprob_bad,
                "margin": None if logprob is None else logprob - (logprob_bad or 0.0),
                "correct": bool(acc) if acc in (0, 1) else None,
            }

    def _item_id(self, line: Line) -> str:
        """Name the document; with its hash, so that only equal documents are ever paired."""
        told = line.get("doc_hash")
        mark = f"/{str(told)[:8]}" if told else ""
        return f"{self.task}/{int(line['doc_id'])}{mark}"

    def _drop_false_margins(self) -> None:
        """Take targets for the index of the right answer only if the task's accuracy agrees."""
        rows = self.items.values()
        if all(_agrees(row) for row in rows):
            return
        for row in rows:
            row["logprob"] = row["logprob_bad"] = row["margin"] = None

    def means(self) -> dict[str, float]:
        complete = {name: of for name, of in self.values.items() if len(of) == len(self.items)}
        return {name: math.fsum(of.values()) / len(of) for name, of in complete.items()}

    def digest(self) -> str:
        digest = hashlib.sha256()
        for item_id in sorted(self.items):
            row = self.items[item_id]
            values = [(name, repr(of.get(item_id))) for name, of in sorted(self.values.items())]
            kept = [item_id, repr(row["logprob"]), repr(row["logprob_bad"]), row["correct"], values]
            digest.update(json.dumps(kept).encode())
        return digest.hexdigest()[:32]

    def tables(self, averaged: Mapping[str, bool]) -> dict[str, pd.DataFrame]:
        places = {item_id: row["item"] for item_id, row in self.items.items()}
        outcomes = [
            {
                "item": places[item_id],
                "item_id": item_id,
                "group": self.task,
                "cluster": item_id,
                "metric": name.removesuffix(f",{NO_FILTER}"),
                "value": value,
                "averaged": averaged.get(name, False),
            }
            for name, of in self.values.items()
            for item_id, value in of.items()
        ]
        return {
            "items": pd.DataFrame(list(self.items.values())),
            "outcomes": pd.DataFrame(outcomes),
        }


def _lines(path: Path) -> Iterator[tuple[int, Line]]:
    """Objects with their numbers; version 0.4.0 wrote one array in place of lines."""
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            if stream.read(1) == "[":
                stream.seek(0)
                yield from enumerate(map(_checked, json.load(stream)), start=1)
                return
            stream.seek(0)
            for number, text in enumerate(stream, start=1):
                if text.strip():
                    yield number, _object(text, number)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON (line {error.lineno}: {error.msg})") from error
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def _object(text: str, number: int) -> Line:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"line {number} is not valid JSON ({error.msg}); is it cut off?"
        ) from error
    return _checked(found, f"line {number}")


def _checked(found: Any, place: str = "an entry") -> Line:
    if not isinstance(found, dict):
        raise ValueError(f"{place} is not an object")
    return found


def _metrics(line: Line) -> dict[str, float]:
    """Metrics that are a number for one document."""
    listed = line.get("metrics")
    names = listed if isinstance(listed, list) else [name for name in line if name not in _FACTS]
    told = {str(name): line[name] for name in names}
    numbers = {name: float(value) for name, value in told.items() if isinstance(value, Real)}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise ValueError(f"document {line['doc_id']}: {name} is {value}, not a finite number")
    return numbers


def _sides(line: Line) -> tuple[float | None, float | None]:
    """Log-probabilities of the right and of the best wrong answer of a choice."""
    nothing = (None, None)
    answers = line.get("filtered_resps")
    target = str(line.get("target"))
    if not isinstance(answers, list) or len(answers) < 2 or not target.isdecimal():
        return nothing
    pairs = [answer for answer in answers if isinstance(answer, list) and len(answer) == 2]
    # An accuracy from mutual information has as many answers again, without their question.
    if len(pairs) < len(answers) or int(target) >= len(pairs) or "acc_mutual_info" in line:
        return nothing
    try:
        scores = [float(score) for score, _ in pairs]
    except (TypeError, ValueError):
        return nothing
    if not all(map(math.isfinite, scores)):
        return nothing
    right = scores.pop(int(target))
    return right, max(scores)


def _agrees(row: Mapping[str, Any]) -> bool:
    """Whether the sign of a margin says the same as the accuracy; ties may go either way."""
    if row["margin"] is None or row["correct"] is None:
        return row["margin"] is None
    return bool(row["margin"] == 0 or (row["margin"] > 0) == row["correct"])
