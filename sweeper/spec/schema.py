"""What the models of a job allow at a dotted key: for error messages and for changes of kind."""

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sweeper.spec.base import Allowed

Loc = Sequence[str | int]
"""Where pydantic found an error: keys, but also tags of unions and marks such as ``[key]``."""

_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}
_BOUNDS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that may stand here: none, one, or the variants that ``kind`` tells apart."""
    return [part for part in _parts(annotation) if _is_model(part)]


@cache
def fields_of(model: type[BaseModel]) -> dict[str, Any]:
    """Keys of a model with their annotations, constraints included."""
    hints = get_type_hints(model, include_extras=True)
    return {name: hints[name] for name in model.model_fields}


def key_of(annotation: Any) -> Any:
    """What the keys of a mapping with free keys may be; None where this is no such mapping."""
    return _of_mapping(annotation, 0)


def value_of(annotation: Any) -> Any:
    """What the values of a mapping with free keys may be; None where this is no such mapping."""
    return _of_mapping(annotation, 1)


def takes_text(annotation: Any) -> bool:
    """Whether any text may stand here."""
    return str in _parts(annotation)


def kinds_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Values of ``kind`` that stand for this variant."""
    return get_args(fields_of(model)["kind"]) if "kind" in model.model_fields else ()


def variant(annotation: Any, kind: Any) -> type[BaseModel] | None:
    """The variant that a value of ``kind`` stands for; None when there is no such kind."""
    return next((model for model in models_of(annotation) if kind in kinds_of(model)), None)


@dataclass(frozen=True, slots=True)
class Place:
    """A key of the job, what is allowed there and in the mapping that holds it."""

    path: tuple[str | int, ...]
    annotation: Any
    """None for a key that does not exist."""
    above: Any


def locate(root: type[BaseModel], loc: Loc) -> Place:
    """Turn pydantic's place of an error into the key of the job file.

    The way ends at a list, at a union of plain types, and at one of models without a ``kind``:
    what is allowed is said there.
    """
    place = Place((), root, None)
    steps = iter(loc)
    for step in steps:
        if _is_mapping_or_plain(place.annotation):
            # The step tells which of them was tried, and the next one is a key of the mapping.
            key = next(steps, None) if str(step).startswith("dict[") else None
            if key is None:
                break
            step = key
        if step == "[key]":  # of the key itself, not of what stands under it
            break
        models = models_of(place.annotation)
        if len(models) > 1:
            if not any(map(kinds_of, models)):
                break
            place = replace(place, annotation=variant(place.annotation, step))
            continue
        below = fields_of(models[0]).get(str(step)) if models else value_of(place.annotation)
        if below is None and not models:
            break
        place = Place((*place.path, step), below, place.annotation)
    return place


def describe(annotation: Any) -> str:
    """Say in words what is allowed."""
    if isinstance(annotation, Allowed):
        return annotation.text
    if get_origin(annotation) is Annotated:
        return _describe_annotated(annotation)
    if get_origin(annotation) is Literal:
        words = [str(value) for value in get_args(annotation)]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if _is_union(annotation):
        return " or ".join(dict.fromkeys(describe(part) for part in get_args(annotation)))
    if _is_model(annotation) or get_origin(annotation) is dict:
        return "a mapping"
    if get_origin(annotation) is list:
        return "a list"
    return _WORDS[annotation]


def choices_of(annotation: Any) -> list[str]:
    """The words that are allowed here, where there are some; for guessing what was meant."""
    literals = (part for part in _parts(annotation) if get_origin(part) is Literal)
    return [str(value) for literal in literals for value in get_args(literal)]


def _of_mapping(annotation: Any, index: int) -> Any:
    mappings = (part for part in _parts(annotation) if get_origin(part) is dict)
    return next((get_args(mapping)[index] for mapping in mappings), None)


def _describe_annotated(annotation: Any) -> str:
    base, *metadata = get_args(annotation)
    stated = next((mark.text for mark in reversed(metadata) if isinstance(mark, Allowed)), None)
    bounds = " and ".join(_bounds(metadata))
    return stated or (f"{describe(base)} {_joiner(base)}{bounds}" if bounds else describe(base))


def _joiner(base: Any) -> str:
    return "of " if base is int else ""


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    marks = (m for field in metadata if isinstance(field, FieldInfo) for m in field.metadata)
    for mark in marks:
        if type(mark) in _BOUNDS:
            words, attribute = _BOUNDS[type(mark)]
            yield f"{words} {getattr(mark, attribute)}"


def _parts(annotation: Any) -> Iterator[Any]:
    """The members of nested unions, without their constraints."""
    if get_origin(annotation) is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif _is_union(annotation):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _is_mapping_or_plain(annotation: Any) -> bool:
    """Whether a mapping with free keys or something else that is no mapping may stand here."""
    parts = [part for part in _parts(annotation) if part is not type(None)]
    return len(parts) > 1 and any(get_origin(part) is dict for part in parts)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
