"""The worker: holds one loaded model, computes units, and writes what it finds to the store.

A plain class: executors run it in this process or in an actor of Ray.
"""

import gc
import logging
import time
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from pydantic import TypeAdapter

from sweeper.errors import StoreError
from sweeper.models.loading import LoadedModel, load
from sweeper.models.prefetch import CheckpointFiles
from sweeper.records import Cell, CellError, Condition, Outcome, Unit
from sweeper.run.analysis_work import analyse
from sweeper.run.census_work import census_rows
from sweeper.run.drift_work import drift_rows
from sweeper.run.fresh_data import check_fingerprint
from sweeper.run.match_work import find_match, ordering_census
from sweeper.run.placement import USABLE
from sweeper.run.profile_work import profiles_of
from sweeper.run.remembered import BatchSizes
from sweeper.run.rows import Rows, cell_row, versions
from sweeper.run.signs import Signs
from sweeper.run.workers import available_bytes
from sweeper.score.engine import score_texts
from sweeper.score.fidelity import check_fidelity, noise_floor
from sweeper.score.memory import TokenBudget, first_budget
from sweeper.score.tasks import (
    FACTS,
    PREPARE,
    PreparedTask,
    WithSentences,
    WithTables,
    WithVersions,
    Writes,
    parse_corpus,
    parse_task,
)
from sweeper.score.texts import Scores
from sweeper.spec.model import ModelSpec
from sweeper.store import Writer, new_attempt_name, read_attempt

NO_FAULT_OF_CELLS = (torch.AcceleratorError, StoreError)
"""What the driver is told as it is: the device is unusable in this process from now on, so that
the executor starts another one; or the store cannot be read."""

_log = logging.getLogger("sweeper")


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
    first: int
    """Size of the budget when the model was loaded."""

    def limit(self, part: float) -> None:
        """Allow batches of a part of the first size from now on, or of what is less already."""
        if part < 1:
            self.budget.positions = min(self.budget.positions, max(int(part * self.first), 1))


@dataclass(frozen=True, slots=True)
class _Sets:
    """What the table ``conditions`` says of one condition, by layer."""

    neurons: dict[int, tuple[int, ...]] = field(default_factory=dict)
    values: dict[int, tuple[float, ...]] = field(default_factory=dict)


class Worker:
    """Computes units one after the other; keeps the model until a unit needs another one."""

    def __init__(
        self, store: str, run: str, name: str, threads: int, signs: Signs | None = None
    ) -> None:
        """Make a worker.

        Args:
            store: address of the store.
            run: name of the run that asks, noted beside every cell.
            name: name of the worker, likewise.
            threads: compute threads on CPU.
            signs: told how the work gets on.
        """
        torch.set_num_threads(threads)
        self._store = store
        self._writer = Writer(store)
        self._run = run
        self._name = name
        self._signs = Signs() if signs is None else signs
        self._files = CheckpointFiles(available_bytes)
        self._held: _Held | None = None
        self._sets: tuple[str, dict[str, _Sets]] = ("", {})

    def run(self, unit: Unit) -> Outcome:
        """Compute a unit's cells and commit those that succeed, all at once.

        A failure of a cell is part of the answer; the other cells go on. A failure to load the
        model is a failure of every cell.
        """
        begin = time.monotonic()
        attempt = new_attempt_name(unit.id)
        rows = Rows(unit=unit, attempt=attempt, run=self._run, worker=self._name)
        self._signs.loading = True
        if unit.previous is not None:
            return self._answer(rows, begin, self._drift(unit, rows))
        try:
            held = self._hold(unit)
        except Exception as error:
            failed = [_cell_error(cell, error) for cell in unit.cells]
            return replace(self._answer(rows, begin, failed), loaded=False)
        self._signs.loading = False
        held.limit(unit.batch_share)
        rows.load_seconds = time.monotonic() - begin
        self._files.look_ahead(unit.outlook)
        try:
            errors = self._compute(held, unit, rows)
        except NO_FAULT_OF_CELLS:
            raise
        except Exception as error:
            errors = [_cell_error(cell, error) for cell in unit.cells]
        _remember_budget(held)
        return self._answer(rows, begin, errors)

    def _compute(self, held: _Held, unit: Unit, rows: Rows) -> list[CellError]:
        if not unit.cells:
            return []
        if unit.cells[0].kind in ("census", "census_part"):
            self._census(held, unit, unit.cells[0], rows)
            return []
        if unit.cells[0].kind == "profile":
            self._profile(held, unit, unit.cells[0], rows)
            return []
        if unit.analysis is not None:
            self._analysis(held, unit, unit.cells[0], rows)
            return []
        positions = held.budget.positions
        try:
            if unit.cells[0].kind == "match":
                return self._match(held, unit, unit.cells[0], rows)
            return self._score(held, unit, rows)
        except NO_FAULT_OF_CELLS:
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
            except NO_FAULT_OF_CELLS:
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
        model = load(unit.checkpoint, spec, self._files.folder(unit.checkpoint, spec))
        for layer in model.layers:
            layer.register_forward_hook(self._signs.layer_computed)
        fidelity = check_fidelity(model)
        positions = first_budget(model, spec)
        known = BatchSizes().known(unit.checkpoint, _device_name(model))
        if known is not None and known < positions:
            _log.info("%s: batches of %d tokens, as remembered", unit.checkpoint.model, known)
            positions = known
        budget = TokenBudget(positions)
        self._held = _Held(
            model=model,
            budget=budget,
            noted=positions,
            tasks={},
            share=fidelity.share,
            first=positions,
        )
        return self._held

    def _census(self, held: _Held, unit: Unit, cell: Cell, rows: Rows) -> None:
        begin = time.monotonic()
        found = census_rows(held.model, unit, held.budget, self._store)
        facts = cell_row(cell, len(found.rows), found.num_tokens, time.monotonic() - begin)
        rows.add({found.table: found.rows}, facts)

    def _analysis(self, held: _Held, unit: Unit, cell: Cell, rows: Rows) -> None:
        begin = time.monotonic()
        found = analyse(held.model, unit, held.budget, self._store)
        facts = cell_row(cell, found.num_items, found.num_tokens, time.monotonic() - begin)
        rows.add(found.tables, facts)

    @staticmethod
    def _profile(held: _Held, unit: Unit, cell: Cell, rows: Rows) -> None:
        begin = time.monotonic()
        found = profiles_of(held.model, unit, held.budget)
        num_neurons = len(found.pairs[["layer", "neuron"]].drop_duplicates())
        facts = cell_row(cell, num_neurons, found.num_tokens, time.monotonic() - begin)
        rows.add({"neuron_pairs": found.pairs, "neuron_tokens": found.tokens}, facts)

    @staticmethod
    def _drift(unit: Unit, rows: Rows) -> list[CellError]:
        """Compare two revisions' files; whatever model is held stays as it is."""
        (cell,), begin = unit.cells, time.monotonic()
        try:
            table = drift_rows(unit)
        except Exception as error:
            return [_cell_error(cell, error)]
        rows.add({"drift": table}, cell_row(cell, len(table), 0, time.monotonic() - begin))
        return []

    def _match(self, held: _Held, unit: Unit, cell: Cell, rows: Rows) -> list[CellError]:
        begin = time.monotonic()
        task = self._prepared(held, unit, cell)
        target = self._condition(unit, cell)
        score = partial(score_texts, held.model, task.texts, budget=held.budget, share=held.share)
        table = find_match(unit, ordering_census(unit, self._store), target, score)
        # Every share that was tried, and the set to be matched.
        num_tokens = (len(table) + 1) * sum(len(row) - 1 for row in task.texts.rows)
        rows.add({"matches": table}, cell_row(cell, 0, num_tokens, time.monotonic() - begin))
        return []

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
            except NO_FAULT_OF_CELLS:
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
        if condition.operation is None and isinstance(task, WithSentences):
            tables["texts"] = task.sentences()
        num_tokens = sum(map(len, scores.logprobs))
        facts = cell_row(cell, len(tables["items"]), num_tokens, seconds)
        if isinstance(task, WithVersions):
            facts["versions"] = versions(task.versions)
        rows.add(tables, {**facts, **clamp, "noise": noise})

    def _prepared(self, held: _Held, unit: Unit, cell: Cell) -> PreparedTask:
        if cell.task not in held.tasks:
            spec, corpus = parse_task(unit.task), parse_corpus(unit.corpus)
            check_fingerprint(unit, FACTS[spec.kind](spec, corpus).identity["data"])
            checkpoint = held.model.checkpoint
            held.tasks[cell.task] = PREPARE[spec.kind](
                held.model.tokenizer, checkpoint.context, spec, corpus
            )
        return held.tasks[cell.task]

    def _condition(self, unit: Unit, cell: Cell) -> Condition:
        key = str(cell.condition_key)
        operation = unit.operations[key]
        sets = _Sets() if operation is None else self._neuron_sets(unit)[key]
        return Condition(
            name=cell.condition,
            seed=cell.seed,
            operation=operation,
            neurons=sets.neurons,
            values=sets.values,
            allow_unchanged=key in unit.allow_unchanged,
        )

    def _neuron_sets(self, unit: Unit) -> dict[str, _Sets]:
        attempt = str(unit.conditions_attempt)
        if self._sets[0] != attempt:
            table = read_attempt(self._store, "conditions", attempt).to_pandas()
            found: dict[str, _Sets] = {}
            for row in table.itertuples():
                sets = found.setdefault(row.condition_key, _Sets())
                sets.neurons[row.layer] = tuple(row.neurons.tolist())
                if row.values is not None:
                    sets.values[row.layer] = tuple(row.values.tolist())
            self._sets = (attempt, found)
        return self._sets[1]


def keep_to_share(share: float) -> None:
    """Take no more than a part of the GPU's memory, so that others have theirs.

    Beyond it memory runs out in this process, and its batches get smaller.
    """
    if torch.cuda.is_available():  # loading tells of it where not
        torch.cuda.set_per_process_memory_fraction(share * USABLE)


def _device_name(model: LoadedModel) -> str:
    """What kind of device, and how much of it, has the memory that a batch must fit into."""
    if model.input_device.type == "cpu":
        return "cpu"
    number, name = torch.cuda.device_count(), torch.cuda.get_device_name(model.input_device)
    share = torch.cuda.get_per_process_memory_fraction(model.input_device)
    return f"{number} x {name}" if share == 1 else f"{share:.2f} of {name}"


def _remember_budget(held: _Held) -> None:
    """Spare other workers and later runs the same failures after memory has run out."""
    if held.budget.positions == held.noted:
        return
    held.noted = held.budget.positions
    try:
        BatchSizes().remember(held.model.checkpoint, _device_name(held.model), held.noted)
    except OSError as error:
        _log.warning("the batch size cannot be remembered: %s", error)


def _cell_error(cell: Cell, error: Exception) -> CellError:
    text = " ".join(str(error).split())[:2000]
    return CellError(key=cell.key, type=type(error).__name__, text=text)
