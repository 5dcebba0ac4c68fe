"""The worker: holds one loaded model, computes units, and writes what it finds to the store.

A plain class: executors run it in this process or in an actor of Ray.
"""

import gc
import logging
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import TypeAdapter

from sweeper.models import weights_folder
from sweeper.models.loading import LoadedModel, load
from sweeper.neurons.census import census
from sweeper.records import Cell, CellError, Condition, Outcome, Unit
from sweeper.run.remembered import BatchSizes
from sweeper.run.rows import Rows, cell_row
from sweeper.score import corpus as corpora
from sweeper.score.engine import score_texts
from sweeper.score.fidelity import check_fidelity, noise_floor
from sweeper.score.memory import TokenBudget, first_budget
from sweeper.score.tasks import (
    FACTS,
    PREPARE,
    PreparedTask,
    WithTables,
    Writes,
    parse_corpus,
    parse_task,
)
from sweeper.score.texts import Scores
from sweeper.score.tokens import Row, windows
from sweeper.spec.corpus import CensusSpec
from sweeper.spec.model import ModelSpec
from sweeper.store import Writer, new_attempt_name, read_attempt

_log = logging.getLogger("sweeper")


class StaleDataError(RuntimeError):
    """The worker finds other data than the driver has put into the cell keys."""


class UnchangedError(RuntimeError):
    """A clamp has changed not a single value."""


@dataclass(slots=True)
class _Held:
    """A loaded model with what is worth keeping beside it."""

    model: LoadedModel
    budget: TokenBudget
    noted: int
    """Size of the budget that this machine knows of."""
    tasks: dict[str, PreparedTask]
    share: bool
    """Whether the model takes tree attention."""


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
        try:
            errors = self._compute(held, unit, rows)
        except torch.AcceleratorError:
            # The device is unusable in this process from now on: the executor starts another.
            raise
        except Exception as error:
            errors = [_cell_error(cell, error) for cell in unit.cells]
        _remember_budget(held)
        return self._answer(rows, begin, errors)

    def _compute(self, held: _Held, unit: Unit, rows: Rows) -> list[CellError]:
        if unit.cells[0].kind == "census":
            self._census(held, unit, unit.cells[0], rows)
            return []
        positions = held.budget.positions
        try:
            return self._score(held, unit, rows)
        except torch.AcceleratorError:
            raise
        except Exception:
            # What was tried in vain to make it fit says nothing about other work.
            held.budget.positions = positions
            if len(unit.cells) == 1:
                raise
        return self._score_apart(held, unit, rows)

    def _score_apart(self, held: _Held, unit: Unit, rows: Rows) -> list[CellError]:
        """One condition after the other, so that the one that fails does not take others along."""
        errors: list[CellError] = []
        for cell in unit.cells:
            positions = held.budget.positions
            try:
                errors += self._score(held, replace(unit, cells=(cell,)), rows)
            except torch.AcceleratorError:
                raise
            except Exception as error:
                held.budget.positions = positions
                errors.append(_cell_error(cell, error))
        return errors

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
        fidelity = check_fidelity(model)
        positions = first_budget(model, spec)
        known = BatchSizes().known(unit.checkpoint, _device_name(model))
        if known is not None and known < positions:
            _log.info("%s: batches of %d tokens, as remembered", unit.checkpoint.model, known)
            positions = known
        budget = TokenBudget(positions)
        self._held = _Held(
            model=model, budget=budget, noted=positions, tasks={}, share=fidelity.share
        )
        return self._held

    def _census(self, held: _Held, unit: Unit, cell: Cell, rows: Rows) -> None:
        begin = time.monotonic()
        spec = TypeAdapter(CensusSpec).validate_python(unit.task)
        text_rows = _census_windows(held.model, spec, unit)
        table = census(held.model, text_rows, held.budget, spec.memory_gb)
        num_tokens = sum(len(row) for row in text_rows)
        facts = cell_row(cell, len(table), num_tokens, time.monotonic() - begin)
        rows.add({"neurons": table}, facts)

    def _score(self, held: _Held, unit: Unit, rows: Rows) -> list[CellError]:
        """Score the cells' conditions together; what fails for one does not touch the others."""
        begin = time.monotonic()
        task = self._prepared(held, unit, unit.cells[0])
        conditions = [self._condition(unit, cell) for cell in unit.cells]
        scored = score_texts(held.model, task.texts, conditions, held.budget, share=held.share)
        # Shared computation belongs to no cell; each is charged the same part.
        seconds = (time.monotonic() - begin) / len(unit.cells)
        errors = []
        for cell, condition, scores in zip(unit.cells, conditions, scored, strict=True):
            try:
                self._add(held, cell, condition, scores, task, seconds, rows)
            except torch.AcceleratorError:
                raise
            except Exception as error:
                errors.append(_cell_error(cell, error))
        return errors

    @staticmethod
    def _add(
        held: _Held,
        cell: Cell,
        condition: Condition,
        scores: Scores,
        task: PreparedTask,
        seconds: float,
        rows: Rows,
    ) -> None:
        scores.require_finite()
        if isinstance(task, Writes):
            begin = time.monotonic()
            scores = task.write(held.model, condition, scores, held.budget)
            seconds += time.monotonic() - begin
        clamp = {"values_changed": scores.values_changed, "values_seen": scores.values_seen}
        noise = None
        if condition.operation is None:
            noise = noise_floor(held.model, task.texts, scores, held.budget)
        elif not (scores.values_changed or condition.allow_unchanged):
            raise UnchangedError(
                f"{condition.operation} changed none of {scores.values_seen} values"
            )
        tables = {"items": task.items(scores)}
        if isinstance(task, WithTables):
            tables |= task.tables(scores)
        num_tokens = sum(map(len, scores.logprobs))
        facts = cell_row(cell, len(tables["items"]), num_tokens, seconds)
        rows.add(tables, {**facts, **clamp, "noise": noise})

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


def _device_name(model: LoadedModel) -> str:
    """What kind of device, and how many of them, has the memory that a batch must fit into."""
    if model.input_device.type == "cpu":
        return "cpu"
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(model.input_device)}"


def _remember_budget(held: _Held) -> None:
    """Spare other workers and later runs the same failures after memory has run out."""
    if held.budget.positions == held.noted:
        return
    held.noted = held.budget.positions
    try:
        BatchSizes().remember(held.model.checkpoint, _device_name(held.model), held.noted)
    except OSError as error:
        _log.warning("the batch size cannot be remembered: %s", error)


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
