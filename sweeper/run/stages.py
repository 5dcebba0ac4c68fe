"""What must be in the store before a checkpoint's conditions are known, and how far that is.

Parts of a census -> census -> matches -> scored cells; a profile waits for the census alone, a
drift for nothing. A set that is chosen at another revision waits for census and match of that one,
one that is chosen by a label for the analysis that gives it (``run.analysis_stages``).
Each stage is read from the store anew, so nothing is lost with the driver; a condition is known as
soon as what it needs is there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pandas as pd

from sweeper.errors import UserError
from sweeper.neurons.match import REASONS
from sweeper.neurons.select import most_extreme
from sweeper.plan.cells import (
    EXPECTED_TRIALS,
    match_cell,
    matched_by_perplexity,
    needs_match,
    seeds_of,
)
from sweeper.plan.layers import concrete_conditions
from sweeper.plan.revisions import followed_from, reference
from sweeper.records import Cell, Checkpoint, Condition
from sweeper.run.analysis_stages import analyses_of
from sweeper.run.preparation import Preparation, Unavailable
from sweeper.run.resolve import Sets
from sweeper.run.sweep import Sweep
from sweeper.store import Store

Parts = Sequence[tuple[Cell, tuple[int, int]]]
"""Parts of a census with their windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a checkpoint by what the store holds."""

    named: tuple[Cell, ...]
    """The census, the matches, the profile, the drift and the analyses, done or not."""
    parts: tuple[Cell, ...]
    """Parts that the store has of what is not put together yet."""
    ready: tuple[Preparation, ...]
    """What is to be computed next, so that more becomes known."""
    awaited: tuple[str, ...]
    """Cell keys of what is missing of other revisions, where sets are chosen."""
    sets: Sets
    conditions: tuple[Condition, ...]
    unavailable: tuple[Unavailable, ...]


def known_of(sweep: Sweep, store: Store, checkpoint: Checkpoint) -> Known:
    """What the store makes known of a checkpoint.

    Raises:
        UserError: a set turns out to be empty, or cannot be made.
    """
    stored = store.done_keys()
    census = sweep.census_cell(checkpoint)
    has_census = census is not None and census.key in stored
    neurons = store.table("neurons", [census.key]).to_pandas() if census and has_census else None
    parts = [] if has_census else sweep.census_parts(checkpoint)
    others = _others(sweep, store, checkpoint)
    chosen_there = {word: other.sets for word, other in others.items()}
    analyses = analyses_of(sweep, store, checkpoint)
    sets = Sets(sweep.job, checkpoint, neurons, labels=analyses.labels, references=chosen_there)
    here = [name for name in sets.conditions if sets.reference(name) is None]
    matches = list(_matches(sweep, sets, census, here))
    further = [*matches, *_profiles(sweep, sets), *_drifts(sweep, checkpoint)]
    ready = [item for item in further if item.cell.key not in stored]
    if census is not None and not has_census:
        ready += _of_census(census, parts, stored)
    unavailable = [*_take_all(sweep, store, sets, matches), *_unlabelled(sweep, sets)]
    for other in others.values():
        unavailable += [replace(item, revision=checkpoint.revision) for item in other.unavailable]
    named = [*([census] if census else []), *(item.cell for item in further), *analyses.named]
    return Known(
        named=tuple(named),
        parts=(*(part for part, _ in parts if part.key in stored), *analyses.parts),
        ready=(*ready, *analyses.ready),
        awaited=tuple(dict.fromkeys(key for other in others.values() for key in other.missing)),
        sets=sets,
        conditions=tuple(sets.all()),
        unavailable=tuple(unavailable),
    )


@dataclass(frozen=True, slots=True)
class _Other:
    """Another revision, as far as sets are chosen there that are followed here."""

    sets: Sets
    missing: tuple[str, ...]
    unavailable: tuple[Unavailable, ...]


def _others(sweep: Sweep, store: Store, checkpoint: Checkpoint) -> dict[str, _Other]:
    """The revisions at which sets are chosen that a checkpoint follows, by the job's words."""
    conditions = concrete_conditions(sweep.job, checkpoint)
    words = dict.fromkeys(followed_from(conditions, name) for name in conditions)
    places = {
        word: reference(sweep.checkpoints, checkpoint, word) for word in words if word is not None
    }
    return {
        word: _other(sweep, store, place, word)
        for word, place in places.items()
        if place != checkpoint
    }


def _other(sweep: Sweep, store: Store, place: Checkpoint, word: str) -> _Other:
    stored, census = store.done_keys(), sweep.census_cell(place)
    has_census = census is not None and census.key in stored
    sets = Sets(sweep.job, place, _neurons(store, census.key) if census and has_census else None)
    followed = [name for name in sets.conditions if followed_from(sets.conditions, name) == word]
    matches = list(_matches(sweep, sets, census, followed))
    cells = [*([census] if census else []), *(item.cell for item in matches)]
    return _Other(
        sets=sets,
        missing=tuple(cell.key for cell in cells if cell.key not in stored),
        unavailable=tuple(_take_all(sweep, store, sets, matches)),
    )


@lru_cache(maxsize=2)
def _neurons(store: Store, census: str) -> pd.DataFrame:
    """A census that every other revision of the model asks for; the same key has the same rows."""
    rows: pd.DataFrame = store.table("neurons", [census]).to_pandas()
    return rows


def _of_census(census: Cell, parts: Parts, stored: set[str]) -> list[Preparation]:
    """The census, or those of its parts that are not there yet."""
    missing = [
        Preparation(cell=part, windows=windows) for part, windows in parts if part.key not in stored
    ]
    # Where there are parts they are the work, and merging them takes no time.
    whole = replace(census, cost=0.0) if parts else census
    return missing or [Preparation(cell=whole, parts=tuple(part.key for part, _ in parts))]


def _matches(
    sweep: Sweep, sets: Sets, census: Cell | None, names: Sequence[str]
) -> Iterator[Preparation]:
    """Matches of a checkpoint for conditions of these names, as far as their targets are known.

    None before the census, which all of them need.
    """
    if census is None or sets.neurons is None:
        return
    without = dict(sets.unlabelled())
    for name, neurons in matched_by_perplexity(sets.conditions).items():
        if name not in names or name in without or not sets.known(neurons.match):
            continue
        target = sets.condition(neurons.match)
        facts = sweep.tasks[str(neurons.task)]
        cell = match_cell(sets.checkpoint, name, neurons, target, census.key, facts)
        yield Preparation(cell=cell, target=target, census=census)


def _profiles(sweep: Sweep, sets: Sets) -> Iterator[Preparation]:
    """The profile of a checkpoint, if the job wants one; none before the census."""
    spec = sweep.job.profiles
    if spec is None or sets.neurons is None:
        return
    try:
        neurons = most_extreme(sets.neurons, spec.statistic, spec.neurons)
    except UserError as error:
        raise UserError(f"profiles.statistic: {error}") from None
    cell = sweep.profile_cell(sets.checkpoint, neurons)
    if cell is not None:
        yield Preparation(cell=cell, neurons=neurons)


def _drifts(sweep: Sweep, checkpoint: Checkpoint) -> Iterator[Preparation]:
    """The drift of a checkpoint, if it is compared with an earlier revision."""
    cell = sweep.drift_cell(checkpoint)
    if cell is not None:
        yield Preparation(cell=cell, previous=sweep.previous(checkpoint))


def _take_all(
    sweep: Sweep, store: Store, sets: Sets, matches: Sequence[Preparation]
) -> list[Unavailable]:
    """Give the sets what those matches have found that are done."""
    stored, unavailable = store.done_keys(), list[Unavailable]()
    for item in matches:
        if item.cell.key in stored:
            rows = store.table("matches", [item.cell.key]).to_pandas()
            unavailable += _take(sweep, sets, item, rows)
    return unavailable


def _take(sweep: Sweep, sets: Sets, item: Preparation, rows: pd.DataFrame) -> list[Unavailable]:
    """Give the sets what a match has found; where it found none, list what cannot be had."""
    cell, chosen = item.cell, rows[rows["chosen"]]
    if rows["reached"].all():
        sets.matches[cell.condition] = float(chosen["fraction"].item())
        return []
    match = item.target.name if item.target else ""
    row: dict[str, Any] = {str(name): value for name, value in chosen.iloc[0].items()}
    reason = REASONS[row["outcome"]].format(**row, match=match)
    return [
        _unavailable(sweep, sets, name, reason)
        for name in sets.conditions
        if needs_match(sets.conditions, name) == cell.condition
    ]


def _unlabelled(sweep: Sweep, sets: Sets) -> list[Unavailable]:
    """Conditions whose label no neuron has, and their controls; nothing is matched to them."""
    matched = matched_by_perplexity(sets.conditions)
    return [
        _unavailable(sweep, sets, name, reason, matched[name].task if name in matched else None)
        for name, reason in sets.unlabelled()
    ]


def _unavailable(
    sweep: Sweep, sets: Sets, name: str, reason: str, match: str | None = None
) -> Unavailable:
    """A condition that cannot be had, and the task of its match where that is not made either."""
    draws = len(seeds_of(sets.conditions[name].spec, sweep.job.seeds))
    cells = {("score", task): draws for task in sweep.tasks}
    cost = draws * sum(facts.positions for facts in sweep.tasks.values())
    if match is not None:
        cells["match", match] = 1
        cost += sweep.tasks[match].positions * EXPECTED_TRIALS
    return Unavailable(
        model=sets.checkpoint.model,
        revision=sets.checkpoint.revision,
        condition=name,
        reason=reason,
        cells=cells,
        cost=cost,
    )
