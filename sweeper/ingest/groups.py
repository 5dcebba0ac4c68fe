"""Groups of tasks: which tasks are the parts of one, BLiMP's paradigms of BLiMP."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from sweeper.errors import UserError
from sweeper.ingest.result import Result, shot_name

KNOWN = {"blimp": "blimp_*", "mmlu": "hendrycksTest-*"}
"""Groups of the harness whose files, before version 0.4, do not name them."""

Groups = Mapping[str, Sequence[str]]


def read_groups(texts: Iterable[str]) -> dict[str, str]:
    """Read ``NAME=PATTERN`` of the command line.

    Raises:
        UserError: a text is not of this form.
    """
    found = {}
    for text in texts:
        name, equals, pattern = text.partition("=")
        if not (name and equals and pattern):
            raise UserError(f"--group: {text!r} is not NAME=PATTERN, such as blimp=blimp_*")
        found[name] = pattern
    return found


def all_groups(results: Sequence[Result], told: Groups, asked: Mapping[str, str]) -> Groups:
    """Groups of a run with their parts, both by the names that the run has for them.

    A group has the tasks that the command line gives it, or the harness's files, or, where no file
    names its groups, those that its name is known for; groups of the files are none of them. It is
    in the run for each number of examples in the prompt that two of its tasks or more have. What
    the files say of it is kept in full, so that it shows where a task was not imported.

    Args:
        results: what is imported.
        told: groups of the harness's files, by the harness's names.
        asked: name -> pattern of tasks.

    Raises:
        UserError: a pattern fits no task.
    """
    shots: defaultdict[str, set[int]] = defaultdict(set)
    for result in results:
        shots[result.task].add(result.num_fewshot)
    groups = {name for name, parts in told.items() if shots.keys() & set(parts)}
    patterns = {name: one for name, one in KNOWN.items() if name not in told} | dict(asked)
    members = {name: tuple(parts) for name, parts in told.items()} | {
        name: tuple(task for task in shots.keys() - groups - {name} if fnmatchcase(task, pattern))
        for name, pattern in patterns.items()
    }
    for name in asked:
        if not members[name]:
            raise UserError(f"--group: {name}={asked[name]} fits none of the imported tasks")
    found: dict[str, list[str]] = {}
    for name, parts in members.items():
        here = Counter(count for part in parts for count in shots.get(part, ()))
        is_told = name not in patterns
        for count in (count for count, number in sorted(here.items()) if number > 1):
            whole = [part for part in parts if is_told or count in shots[part]]
            found[shot_name(name, count)] = sorted(shot_name(part, count) for part in whole)
    return dict(sorted(found.items()))
