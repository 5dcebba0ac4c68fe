"""Which revisions of a model: a small language of names, globs and filters.

``pythia-steps | 1000.. | log 12`` takes names on the left of the first bar (separated by commas)
through one filter after the other. Nothing here asks a hub or a folder what there is.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import log1p

PYTHIA = "pythia-steps"
PYTHIA_STEPS = tuple(
    f"step{step}" for step in (0, *(2**power for power in range(10)), *range(1000, 143001, 1000))
)
"""The 154 checkpoints of every Pythia model (Biderman et al. 2023, arXiv 2304.01373)."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A full commit hash."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=/-]*")
_GLOB = re.compile(r"[A-Za-z0-9_.+@=/*?\[\]!-]+")
_STEP = re.compile(
    r"(?:^|[^a-z])(?:global[_-]?step|step|checkpoint|ckpt|iter)[_-]?([0-9]+)(?![0-9a-z])", re.I
)


@dataclass(frozen=True, slots=True)
class LogSpaced:
    """So many revisions with even ratios between their steps, the first and the last kept."""

    count: int


@dataclass(frozen=True, slots=True)
class Every:
    """The first revision, and every n-th one after it."""

    count: int


@dataclass(frozen=True, slots=True)
class Between:
    """Revisions whose step lies between two, both included; None is no bound."""

    first: int | None
    last: int | None


Filter = LogSpaced | Every | Between


@dataclass(frozen=True, slots=True)
class Selection:
    """What one expression says."""

    sources: tuple[str, ...]
    """Names, globs, and ``pythia-steps``."""
    filters: tuple[Filter, ...]

    @property
    def is_open(self) -> bool:
        """Whether what it selects depends on what there is."""
        return any(map(is_glob, self.sources))


def step_of(name: str) -> int | None:
    """The training step that a revision's name tells: ``step1000``, ``checkpoint-500``.

    None where it tells none, or not the number itself (``step-50K``).
    """
    found = _STEP.search(name)
    return int(found[1]) if found else None


def is_glob(source: str) -> bool:
    """Whether a source stands for all revisions that look like it."""
    return any(mark in source for mark in "*?[")


def is_name(text: str) -> bool:
    """Whether text can be a revision's name: no blanks, and no way out of a folder."""
    return bool(_NAME.fullmatch(text)) and not _leads_out(text)


def parse(expressions: str | Sequence[str]) -> tuple[Selection, ...]:
    """Read one expression, or a list of them.

    Raises:
        ValueError: something that is no name, glob or filter, with what is allowed.
    """
    several = [expressions] if isinstance(expressions, str) else expressions
    if not several:
        raise ValueError("the list is empty; at least one revision is needed")
    return tuple(_parse(expression) for expression in several)


def expand(selections: Iterable[Selection], existing: Iterable[str] = ()) -> list[str]:
    """Names that expressions select, each once.

    In the order of their steps where every one has a step of its own, otherwise as listed; what a
    glob finds is listed by name, numbers in it by their value.

    Args:
        selections: of :func:`parse`.
        existing: names that globs are matched against; other sources may name what is not there.

    Raises:
        ValueError: a glob matches nothing, a filter does not fit, or nothing is left.
    """
    known = sorted(filter(is_name, existing), key=_by_numbers)
    listed = [name for selection in selections for name in _expand(selection, known)]
    names = list(dict.fromkeys(listed))
    steps = {name: step_of(name) for name in names}
    if len(set(steps.values()) - {None}) == len(names):
        names.sort(key=lambda name: steps[name] or 0)
    return names


def _parse(expression: str) -> Selection:
    listed, *filters = (part.strip() for part in expression.split("|"))
    sources = tuple(source.strip() for source in listed.split(","))
    for source in sources:
        _check_source(source, expression)
    return Selection(sources, tuple(_filter(text) for text in filters))


def _check_source(source: str, expression: str) -> None:
    if not source:
        raise ValueError(f"{expression!r} lacks a name; allowed are names, globs and {PYTHIA}")
    if isinstance(_as_filter(source), Filter):
        raise ValueError(
            f"{source!r} is a filter; it goes behind names and a bar: NAMES | {source}"
        )
    allowed = _GLOB if is_glob(source) else _NAME
    if not allowed.fullmatch(source) or _leads_out(source):
        raise ValueError(f"{source!r} is no name of a revision, no glob and not {PYTHIA}")


def _leads_out(text: str) -> bool:
    return ".." in text or text.startswith("/")


def _filter(text: str) -> Filter:
    found = _as_filter(text)
    if isinstance(found, str):
        raise ValueError(found)
    return found


def _as_filter(text: str) -> Filter | str:
    """The filter that a text says, or what is wrong with it."""
    counted = re.fullmatch(r"(log|every)\s+(\d+)", text)
    if counted and counted[1] == "log":
        return LogSpaced(int(counted[2])) if int(counted[2]) > 1 else f"{text!r} needs at least 2"
    if counted:
        return Every(int(counted[2])) if int(counted[2]) else f"{text!r} needs at least 1"
    bounds = re.fullmatch(r"(\d*)\s*\.\.\s*(\d*)", text)
    if bounds and any(bounds.groups()):
        first, last = (int(bound) if bound else None for bound in bounds.groups())
        if first is not None and last is not None and first > last:
            return f"{text!r} is empty; the smaller step comes first"
        return Between(first, last)
    if "," in text:
        return f"{text!r} is no filter; behind a bar there is no comma: [EXPRESSION, EXPRESSION]"
    return f"{text!r} is no filter; allowed: log N, every N, A..B, A.., ..B"


def _expand(selection: Selection, known: Sequence[str]) -> list[str]:
    names: list[str] = []
    for source in selection.sources:
        names += _found(source, known)
    names = list(dict.fromkeys(names))
    for each in selection.filters:
        names = _apply(each, names)
    return names


def _found(source: str, known: Sequence[str]) -> Sequence[str]:
    if source == PYTHIA:
        return PYTHIA_STEPS
    if not is_glob(source):
        return [source]
    found = [name for name in known if fnmatchcase(name, source)]
    if not found:
        more = ", ..." if known[3:] else ""
        some = f" ({', '.join(known[:3])}{more})" if known else ""
        raise ValueError(f"none of {len(known)} revisions{some} looks like {source!r}")
    return found


def _apply(each: Filter, names: Sequence[str]) -> list[str]:
    if isinstance(each, Every):
        return list(names[:: each.count])
    steps = {name: step_of(name) for name in names}
    without = [name for name, step in steps.items() if step is None]
    if without:
        raise ValueError(f"{without[0]!r} tells no step, which {_words(each)} goes by")
    by_step = sorted(names, key=lambda name: steps[name] or 0)
    if isinstance(each, LogSpaced):
        return _log_spaced(by_step, [steps[name] or 0 for name in by_step], each.count)
    kept = [name for name in by_step if _lies_in(each, steps[name] or 0)]
    if not kept:
        raise ValueError(f"{_words(each)} leaves none of {len(names)} revisions")
    return kept


def _lies_in(bounds: Between, step: int) -> bool:
    above = bounds.first is None or bounds.first <= step
    return above and (bounds.last is None or step <= bounds.last)


def _log_spaced(names: Sequence[str], steps: Sequence[int], count: int) -> list[str]:
    """Those nearest to even distances in log(1 + step), each one once."""
    if count > len(names):
        raise ValueError(f"log {count} is not allowed; there are only {len(names)} revisions here")
    places = [log1p(step) for step in steps]
    chosen = [0]
    for index in range(1, count):
        target = places[0] + (places[-1] - places[0]) * index / (count - 1)
        # One for each of the others must be left behind it; the last one is the last of all.
        left = range(chosen[-1] + 1, len(names) - (count - 1 - index))
        chosen.append(min(left, key=lambda place: abs(places[place] - target)))
    chosen[-1] = len(names) - 1
    return [names[place] for place in chosen]


def _words(each: Filter) -> str:
    if isinstance(each, Between):
        first, last = ("" if bound is None else bound for bound in (each.first, each.last))
        return f"{first}..{last}"
    return f"{'log' if isinstance(each, LogSpaced) else 'every'} {each.count}"


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Sorts ``step9`` before ``step10``."""
    parts = re.findall(r"(\d+)|(\D+)", name)
    return [(int(number), "") if number else (-1, text) for number, text in parts]
