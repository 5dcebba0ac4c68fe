"""Groups of tasks: which tasks are the parts of one, BLiMP's paradigms of BLiMP."""

from collections import defaultdict
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
    names its groups, those that its name is known for.

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
    patterns = {name: one for name, one in KNOWN.items() if name not in told} | dict(asked)
    members = {name: tuple(parts) for name, parts in told.items()} | {
        name: tuple(task for task in shots if fnmatchcase(task, pattern) and task != name)
        for name, pattern in patterns.items()
    }
    for name in asked:
        if not members[name]:
            raise UserError(f"--group: {name}={asked[name]} fits none of the imported tasks")
    found: dict[str, list[str]] = {}
    for name, parts in members.items():
        for part in parts:
            for count in sorted(shots.get(part, ())):
                found.setdefault(shot_name(name, count), []).append(shot_name(part, count))
    return {name: sorted(parts) for name, parts in sorted(found.items()) if len(parts) > 1}
