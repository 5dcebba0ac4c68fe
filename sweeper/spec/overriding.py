"""Overrides of the command line: read by Hydra's grammar, applied to plain data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from sweeper.errors import UserError, first_line
from sweeper.spec.job import GROUPS
from sweeper.spec.wording import dotted, hint, listed, shown


@dataclass(frozen=True, slots=True)
class Choice:
    """Options to take from a group."""

    group: str
    options: tuple[str, ...]
    add: bool
    """Beside those of the job file, instead of in their place."""


@dataclass(frozen=True, slots=True)
class Change:
    """A value for a key, or the wish to drop the key."""

    path: tuple[str, ...]
    value: Any
    drop: bool


def read(overrides: Iterable[str]) -> tuple[list[Choice], list[Change]]:
    """Tell choices of options from changes of values.

    Raises:
        UserError: an override that the grammar does not allow.
    """
    choices: list[Choice] = []
    changes: list[Change] = []
    for text in overrides:
        override = _parse(text)
        key, value = override.key_or_group, override.value()
        if key in GROUPS and not override.is_delete() and not isinstance(value, dict):
            choices.append(Choice(key, _options(text, value), override.is_add()))
        else:
            changes.append(Change(tuple(key.split(".")), value, override.is_delete()))
    return choices, changes


def as_mapping(changes: Iterable[Change]) -> dict[str, Any]:
    """The new values alone, nested by their keys."""
    said: dict[str, Any] = {}
    for change in changes:
        if not change.drop:
            _set(said, change.path, change.value)
    return said


def apply(changes: Iterable[Change], data: dict[str, Any]) -> None:
    """Put new values into a composed job, in place.

    Keys that the models do not know are left to validation; a model, corpus, task or condition
    that the job does not have is an error here, since the change would start a broken one.

    Raises:
        UserError: the key lies below an entry, or drops a key, that is not there.
    """
    for change in changes:
        group, *below = change.path
        if group in GROUPS and group != "cluster" and len(below) > 1:
            _require(data.get(group), below[0], change)
        if change.drop:
            _drop(data, change)
        else:
            _set(data, change.path, change.value)


def _parse(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
        sweep = override.is_sweep_override()
    except HydraException as error:
        reason = first_line(error)
        raise UserError(
            f"override {shown(text)}: broken syntax ({reason}); allowed: key=value, "
            "key=[a,b], ~key; text with special characters in quotes: key='\"text\"'"
        ) from None
    if sweep:
        raise UserError(f"override {shown(text)}: several values; a list is written key=[a,b]")
    if override.package is not None:
        raise UserError(f"override {shown(text)}: '@' is not allowed in the key")
    return override


def _options(text: str, value: Any) -> tuple[str, ...]:
    options = value if isinstance(value, list) else [value]
    if not all(isinstance(option, str) and option for option in options):
        raise UserError(f"override {shown(text)}: allowed: group=option or group=[option,option]")
    return tuple(options)


def _require(entries: Any, name: str, change: Change) -> None:
    known = list(entries) if isinstance(entries, Mapping) else []
    if name not in known:
        raise UserError(
            f"{dotted(change.path)}: this job has no {change.path[0]} {name!r}; "
            f"{listed(known)}{hint(name, known)}"
        )


def _set(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for depth, step in enumerate(path[:-1], start=1):
        below = data.setdefault(step, {})
        if below is None:
            below = data[step] = {}
        if not isinstance(below, dict):
            held = dotted(path[:depth])
            raise UserError(f"{dotted(path)}: {held} is {shown(below)}, which has no keys below it")
        data = below
    _merge(data, path[-1], value)


def _merge(data: dict[Any, Any], key: Any, value: Any) -> None:
    held = data.get(key)
    if isinstance(value, dict) and isinstance(held, dict):
        for below, part in value.items():
            _merge(held, below, part)
    else:
        data[key] = value


def _drop(data: dict[str, Any], change: Change) -> None:
    above: Any = data
    for step in change.path[:-1]:
        above = above.get(step) if isinstance(above, dict) else None
    known = list(above) if isinstance(above, dict) else []
    if change.path[-1] not in known:
        raise UserError(
            f"~{dotted(change.path)}: no such key to drop; "
            f"{listed(map(str, known))}{hint(change.path[-1], map(str, known))}"
        )
    del above[change.path[-1]]
