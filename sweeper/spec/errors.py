"""Turns whatever is wrong with a job into one line that its author can act on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sweeper.errors import UserError
from sweeper.spec.schema import (
    Place,
    choices_of,
    describe,
    fields_of,
    key_of,
    kinds_of,
    locate,
    models_of,
    takes_text,
)
from sweeper.spec.wording import dotted, hint, listed, one_line, shown

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, at a key of the job."""

    path: Path
    message: str


def first_of(problems: Sequence[Problem], data: Mapping[Any, Any]) -> UserError:
    """The error for the problem that comes first in the job, with the number of the others."""
    first = min(problems, key=lambda problem: _place(problem.path, data))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return UserError(one_line(first.message + more))


def problems_of(error: ValidationError, root: type[BaseModel]) -> list[Problem]:
    """Everything that a validation found; a key is named once, however many types it fails.

    A mapping is not named where a key below it is: what else might stand there is no matter then.
    """
    found: dict[Path, Problem] = {}
    for details in error.errors(include_url=False):
        problem = _problem(details, root)
        found.setdefault(problem.path, problem)
    above = {path[:end] for path in found for end in range(len(path))}
    return [problem for path, problem in found.items() if path not in above]


def _problem(details: ErrorDetails, root: type[BaseModel]) -> Problem:
    place = locate(root, details["loc"])
    value = details["input"]
    match details["type"]:
        case "extra_forbidden":
            return Problem(place.path, _unknown_key(place, value))
        case "missing":
            return _missing(place.path, place.annotation)
        case "union_tag_not_found" | "union_tag_invalid" if isinstance(value, Mapping):
            return _wrong_kind(place, value)
        case "value_error":
            reason = str(details["ctx"]["error"])
            message = f"{dotted(place.path)}: {reason}" if place.path else reason
            return Problem(place.path, message)
        case _ if details["loc"][-1:] == ("[key]",):
            return Problem(place.path, _wrong_key(place))
        case _:
            return _wrong_value(place.path, value, place.annotation)


def _unknown_key(place: Place, value: Any) -> str:
    *above, key = place.path
    allowed = list(fields_of(models_of(place.above)[0]))
    guess = hint(key, allowed, f"{dotted(above)}." if above else "")
    return f"{dotted(place.path)}: unknown key (value {shown(value)}); {listed(allowed)}{guess}"


def _missing(path: Path, annotation: Any) -> Problem:
    return Problem(path, f"{dotted(path)}: missing; allowed is {describe(annotation)}")


def _wrong_kind(place: Place, value: Mapping[Any, Any]) -> Problem:
    words = (kind for model in models_of(place.annotation) for kind in kinds_of(model))
    kinds: Any = Literal[tuple(words)]
    path = (*place.path, "kind")
    return _wrong_value(path, value["kind"], kinds) if "kind" in value else _missing(path, kinds)


def _wrong_key(place: Place) -> str:
    *above, key = place.path
    allowed = describe(key_of(place.above))
    return f"{dotted(above)}: the key {shown(key)} is not allowed; allowed is {allowed}"


def _wrong_value(path: Path, value: Any, annotation: Any) -> Problem:
    text = f"{dotted(path)}: {shown(value)} is not allowed; allowed is {describe(annotation)}"
    guess = hint(value, choices_of(annotation)) if isinstance(value, str) else ""
    if isinstance(value, int | float) and takes_text(annotation):
        guess = "; quotes make it text"
    return Problem(path, text + guess)


def _place(path: Path, data: Any) -> list[int]:
    """Position of a key in the order of the job; a key that is not there comes after its like."""
    places: list[int] = []
    for step in path:
        keys = list(data) if isinstance(data, Mapping) else []
        places.append(keys.index(step) if step in keys else len(keys))
        data = data[step] if step in keys else None
    return places
