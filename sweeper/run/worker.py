"""The worker: holds one loaded model, computes units, and writes what it finds to the store.

A plain class: executors run it in this process or in an actor of Ray.
"""

import gc
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import TypeAdapter

from sweeper.clamp.hooks import clamped
from sweeper.models import weights_folder
from sweeper.models.loading import LoadedModel, load
from sweeper.neurons.census import census
from sweeper.records import Cell, CellError, Condition, Outcome, Unit
from sweeper.run.rows import Rows, cell_row
from sweeper.score import corpus as corpora
from sweeper.score.fidelity import check_fidelity, noise_floor
from sweeper.score.logprobs import TokenBudget, token_logprobs
from sweeper.score.tasks import FACTS, PREPARE, PreparedTask, parse_corpus, parse_task
from sweeper.score.tokens import Row, windows
from sweeper.spec.corpus import CensusSpec
from sweeper.spec.model import ModelSpec
from sweeper.store import Writer, new_attempt_name, read_attempt


class StaleDataError(RuntimeError):
    """The worker finds other data than the driver has put into the cell keys."""


class UnchangedError(RuntimeError):
    """A clamp has changed not a single value."""


@dataclass(slots=True)
class _Held:
    """A loaded model with what is worth keeping beside it."""

    model: LoadedModel
    budget: TokenBudget
    tasks: dict[str, PreparedTask]


class Worker:
    """Computes units one after the other; keeps the model until a unit needs another one."""

    def __init__(self, store: str, run: str, name: str, threads: int) -> None:
        """Make a worker.

        Args:
            store: address of the store.
            run: name of the run that asks, noted beside every cell.
            name: name of the worker, likewise.
            threads: compute threads on CPU.
        """
        torch.set_num_threads(threads)
        self._store = store
        self._writer = Writer(store)
        self._run = run
        self._name = name
        self._held: _Held | None = None
        self._sets: tuple[str, dict[str, dict[int, tuple[int, ...]]]] = ("", {})

    def run(self, unit: Unit) -> Outcome:
        """Compute a unit's cells and commit those that succeed, all at once.

        A failure of a cell is part of the answer; the other cells go on. A failure to load the
        model is a failure of every cell.
        """
        begin = time.monotonic()
        attempt = new_attempt_name(unit.id)
        rows = Rows(unit=unit, attempt=attempt, run=self._run, worker=self._name)
        try:
            held = self._hold(unit)
        except Exception as error:
            failed = [_cell_error(cell, error) for cell in unit.cells]
            return replace(self._answer(rows, begin, failed), loaded=False)
        rows.load_seconds = time.monotonic() - begin
        compute = self._census if unit.cells[0].kind == "census" else self._score
        errors: list[CellError] = []
        for cell in unit.cells:
            try:
                compute(held, unit, cell, rows)
            except torch.AcceleratorError:
                # The device is unusable in this process from now on: the executor starts another.
                raise
            except Exception as error:
                errors.append(_cell_error(cell, error))
        return self._answer(rows, begin, errors)

    def _answer(self, rows: Rows, begin: float, errors: list[CellError]) -> Outcome:
        if rows.done:
            rows.commit(self._writer)
        return Outcome(
            unit=rows.unit.id,
            attempt=rows.attempt,
            done=tuple(rows.done),
            errors=tuple(errors),
            num_tokens=rows.num_tokens,
            seconds=time.monotonic() - begin,
            load_seconds=rows.load_seconds,
        )

    def _hold(self, unit: Unit) -> _Held:
        """The unit's model, loaded and compared with plain Hugging Face if it is a new one."""
        held = self._held
        if held is not None and held.model.checkpoint == unit.checkpoint:
            return held
        # Two models need not fit into memory side by side.
        self._held = held = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        spec = TypeAdapter(ModelSpec).validate_python(unit.model)
        model = load(unit.checkpoint, spec, weights_folder(unit.checkpoint, spec))
        check_fidelity(model)
        self._held = _Held(model=model, budget=TokenBudget(spec.max_batch_tokens), tasks={})
        return self._held

    def _census(self, held: _Held, unit: Unit, cell: Cell, rows: Rows) -> None:
        begin = time.monotonic()
        spec = TypeAdapter(CensusSpec).validate_python(unit.task)
        text_rows = _census_windows(held.model, spec, unit)
        table = census(held.model, text_rows, held.budget, spec.memory_gb)
        num_tokens = sum(len(row) for row in text_rows)
        rows.add(
            "neurons",
            table,
            cell_row(cell, len(table), num_tokens, time.monotonic() - begin),
        )

    def _score(self, held: _Held, unit: Unit, cell: Cell, rows: Rows) -> None:
        begin = time.monotonic()
        task = self._prepared(held, unit, cell)
        condition = self._condition(unit, cell)
        with clamped(held.model, condition) as count:
            logprobs = token_logprobs(held.model, task.rows, held.budget)
        if condition.operation is not None and not (count.changed or condition.allow_unchanged):
            raise UnchangedError(f"{condition.operation} changed none of {count.seen} values")
        noise = None
        if condition.operation is None:
            noise = noise_floor(held.model, task.rows, logprobs, held.budget)
        items = task.items(logprobs)
        facts = cell_row(cell, len(items), sum(map(len, logprobs)), time.monotonic() - begin)
        clamp = {"values_changed": count.changed, "values_seen": count.seen}
        rows.add("items", items, {**facts, **clamp, "noise": noise})

    def _prepared(self, held: _Held, unit: Unit, cell: Cell) -> PreparedTask:
        if cell.task not in held.tasks:
            spec, corpus = parse_task(unit.task), parse_corpus(unit.corpus)
            _check_fingerprint(unit, FACTS[spec.kind](spec, corpus).identity["data"])
            checkpoint = held.model.checkpoint
            held.tasks[cell.task] = PREPARE[spec.kind](
                held.model.tokenizer, checkpoint.context, spec, corpus
            )
        return held.tasks[cell.task]

    def _condition(self, unit: Unit, cell: Cell) -> Condition:
        key = str(cell.condition_key)
        operation = unit.operations[key]
        return Condition(
            name=cell.condition,
            seed=cell.seed,
            operation=operation,
            neurons={} if operation is None else self._neuron_sets(unit)[key],
            allow_unchanged=key in unit.allow_unchanged,
        )

    def _neuron_sets(self, unit: Unit) -> dict[str, dict[int, tuple[int, ...]]]:
        attempt = str(unit.conditions_attempt)
        if self._sets[0] != attempt:
            table = read_attempt(self._store, "conditions", attempt).to_pandas()
            sets: dict[str, dict[int, tuple[int, ...]]] = {}
            for row in table.itertuples():
                sets.setdefault(row.condition_key, {})[row.layer] = tuple(row.neurons.tolist())
            self._sets = (attempt, sets)
        return self._sets[1]


def _census_windows(model: LoadedModel, spec: CensusSpec, unit: Unit) -> list[Row]:
    corpus = parse_corpus(unit.corpus)
    if corpus is None:
        raise ValueError("a census needs a corpus")
    text = corpora.text(corpus)
    _check_fingerprint(unit, corpora.fingerprint_of(text))
    length = min(spec.length, model.checkpoint.context)
    stride = max(round(length * (1 - spec.overlap)), 1)
    return windows(model.tokenizer, text, length, stride, spec.windows)


def _check_fingerprint(unit: Unit, found: Any) -> None:
    if found != unit.data_fingerprint:
        raise StaleDataError(
            f"task {unit.cells[0].task!r} has data {found} on this worker, "
            f"{unit.data_fingerprint} on the driver"
        )


def _cell_error(cell: Cell, error: Exception) -> CellError:
    text = " ".join(str(error).split())[:2000]
    return CellError(key=cell.key, type=type(error).__name__, text=text)
