"""From answers to rows: the harness's own filters, metrics and aggregation."""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from typing import Any

import pandas as pd
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import acc_all, mean, stderr_for_metric

from sweeper.records import NO_FILTER
from sweeper.score.harness.choices import sides
from sweeper.score.harness.encoding import Answer, Encoded
from sweeper.score.harness.loading import Loaded
from sweeper.score.texts import Scores

_KEYS = ["item", "item_id", "group", "cluster"]
_OUTCOMES = [*_KEYS, "metric", "value", "averaged"]
_AGGREGATES = ["task", "metric", "filter", "value", "stderr"]

Metrics = Mapping[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Document:
    """One document of a task with what became of it."""

    task: Any
    requests: Sequence[Instance]
    num_tokens: Sequence[int]
    """Scored tokens of each request."""
    metrics: Mapping[str, Metrics]
    """Filter -> what the task says of the document."""


def tables(loaded: Loaded, encoded: Encoded, scores: Scores) -> dict[str, pd.DataFrame]:
    """Rows of ``items``, ``outcomes`` and ``aggregates`` for what one condition says.

    The requests hold the answers afterwards; the next call replaces them.
    """
    documents: dict[str, list[_Document]] = {}
    _answer(loaded, encoded, scores)
    counts = dict(zip(map(id, loaded.requests()), encoded.num_tokens(scores), strict=True))
    for name, task in loaded.tasks.items():
        task.apply_filters()
        documents[name] = list(_documents(task, counts))
    items, outcomes = _rows(documents)
    return {
        "items": pd.DataFrame(items),
        "outcomes": pd.DataFrame(outcomes, columns=_OUTCOMES),
        "aggregates": pd.DataFrame(_aggregates(loaded, documents), columns=_AGGREGATES),
    }


def _answer(loaded: Loaded, encoded: Encoded, scores: Scores) -> None:
    """Put the answers into the requests, where the harness looks for them."""
    requests = loaded.requests()
    written = iter(scores.written)
    for request, answer in zip(requests, encoded.answers(requests, scores), strict=True):
        count = request.repeats or 1
        request.filtered_resps = {}
        request.resps = list(islice(written, count)) if answer is None else [answer] * count


def _documents(task: Any, counts: Mapping[int, int]) -> Iterator[_Document]:
    by_document: dict[int, list[Instance]] = defaultdict(list)
    for request in task.instances:
        by_document[request.doc_id].append(request)
    for requests in by_document.values():
        requests.sort(key=lambda request: int(request.idx))
        yield _Document(
            task=task,
            requests=requests,
            num_tokens=[counts[id(request)] for request in requests],
            metrics={name: _judge(task, requests, name) for name in requests[0].filtered_resps},
        )


def _judge(task: Any, requests: Sequence[Instance], filtered_by: str) -> Metrics:
    # A copy, since the task may change the document, and other conditions follow.
    document = copy.copy(requests[0].doc)
    answers = [request.filtered_resps[filtered_by] for request in requests]
    metrics: Metrics = task.process_results(document, answers)
    return metrics


def _rows(documents: Mapping[str, Sequence[_Document]]) -> tuple[list[Row], list[Row]]:
    """Rows of ``items`` and of ``outcomes``."""
    items: list[Row] = []
    outcomes: list[Row] = []
    for name, of_task in documents.items():
        for document in of_task:
            item_id = f"{name}/{document.requests[0].doc_id}"
            # Documents are drawn one by one, so each is a cluster of its own.
            keys = dict(zip(_KEYS, (len(items), item_id, name, item_id), strict=True))
            items.append(keys | _item(document))
            outcomes += [keys | row for row in _outcomes(document)]
    return items, outcomes


def _item(document: _Document) -> Row:
    answers = [_logprob(request.resps[0]) for request in document.requests]
    good, bad = sides(document.task, document.requests[0].doc, answers)
    logprob = None if good is None or not document.num_tokens[good] else answers[good]
    logprob_bad = None if bad is None else answers[bad]
    known = None if logprob is None or logprob_bad is None else logprob - logprob_bad
    return {
        "logprob": logprob,
        "logprob_bad": logprob_bad,
        "margin": known,
        "correct": _correct(document.metrics),
        "num_tokens": sum(document.num_tokens) if good is None else document.num_tokens[good],
        "num_tokens_bad": None if bad is None else document.num_tokens[bad],
    }


def _logprob(answer: Answer | str) -> float | None:
    if isinstance(answer, str):
        return None
    return answer[0] if isinstance(answer, tuple) else answer


def _correct(metrics: Mapping[str, Metrics]) -> bool | None:
    """The task's ``acc`` by its first filter, where that is 0 or 1."""
    value = next(iter(metrics.values())).get("acc")
    return bool(value) if _is_number(value) and value in (0, 1) else None


def _outcomes(document: _Document) -> Iterator[Row]:
    combine = document.task.aggregation()
    for filtered_by, of_filter in document.metrics.items():
        for metric, value in of_filter.items():
            if _is_number(value):
                name = metric if filtered_by == NO_FILTER else f"{metric},{filtered_by}"
                averaged = combine.get(metric, mean) is mean
                yield {"metric": name, "value": float(value), "averaged": averaged}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real)


def _aggregates(loaded: Loaded, documents: Mapping[str, Sequence[_Document]]) -> Iterator[Row]:
    """Every task's and then every group's metrics, as ``lm_eval.evaluate`` reports them."""
    results = {name: _aggregate(loaded.tasks[name], of_task) for name, of_task in documents.items()}
    results |= {name: group.aggregate(results) for name, group in loaded.groups.items()}
    for name, metrics in results.items():
        for key, value in metrics.items():
            metric, comma, filtered_by = key.partition(",")
            if comma and not metric.endswith("_stderr") and _is_number(value):
                stderr: Any = metrics.get(f"{metric}_stderr,{filtered_by}")
                yield {
                    "task": name,
                    "metric": metric,
                    "filter": filtered_by,
                    "value": float(value),
                    "stderr": float(stderr) if _is_number(stderr) else None,
                }


def _aggregate(task: Any, documents: Sequence[_Document]) -> dict[str, Any]:
    """A task's metrics under the keys that the harness's groups read."""
    values: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for document in documents:
        for filtered_by, metrics in document.metrics.items():
            for metric, value in metrics.items():
                values[metric, filtered_by].append(value)
    result: dict[str, Any] = {"sample_len": max(map(len, values.values()), default=0)}
    for (metric, filtered_by), of_metric in values.items():
        combine = task.aggregation().get(metric, mean)
        result[f"{metric},{filtered_by}"] = combine(of_metric)
        if combine in (mean, acc_all) and len(of_metric) > 1:
            # By formula. For others the harness would draw 100,000 resamples for every cell.
            formula = stderr_for_metric(combine, bootstrap_iters=1)
            result[f"{metric}_stderr,{filtered_by}"] = formula(of_metric)
    return result
