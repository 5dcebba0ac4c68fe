"""Which model and checkpoint an evaluation is of, by what its files say."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sweeper.errors import UserError
from sweeper.ingest.result import Origin
from sweeper.spec.revisions import step_of

MAIN = "main"
"""Revision where none is told."""
GROUPS = ("model", "revision", "step")
"""Named groups that a pattern may have."""
NAMED_BY = ("peft", "delta", "pretrained", "model", "path", "engine")
"""Arguments that name a model, in the harness's order: an adapter before what it is put on."""

_FOLDER = re.compile(r"(?:global[_-]?step|step|checkpoint|ckpt|iter)[_-]?\d+", re.I)


def at_step(model: str, step: int | None) -> Origin:
    """The checkpoint of a step; negative steps and None are the model as it is."""
    if step is None or step < 0:
        return Origin(model=model, revision=MAIN, step=None)
    return Origin(model=model, revision=f"step{step}", step=step)


def at_revision(model: str, revision: str) -> Origin:
    """The checkpoint of a revision."""
    return Origin(model=model, revision=revision, step=step_of(revision))


@dataclass(frozen=True, slots=True)
class Naming:
    """How files become names: by the pattern where there is one, else by what they say."""

    pattern: re.Pattern[str] | None = None

    def of_arguments(self, source: str, config: Mapping[str, Any], name: str | None) -> Origin:
        """Find the checkpoint of a harness file.

        A hub repository keeps its full name, a local folder its last part; a folder that is named
        like a step is a checkpoint of the folder above.

        Args:
            source: path of the file.
            config: the file's ``config``.
            name: the file's ``model_name``.

        Raises:
            ValueError: nothing names a model, or the pattern is not found.
        """
        arguments = _arguments(config.get("model_args"))
        told = next((str(arguments[key]) for key in NAMED_BY if arguments.get(key)), None)
        model = told or name or _word(config.get("model"))
        revision = arguments.get("revision") or _word(config.get("model_revision"))
        if self.pattern is not None:
            return self._by_pattern((source, model or ""), model)
        if not model:
            raise ValueError("config.model_args and model_name name no model; give --model-pattern")
        path = PurePosixPath(model)
        if revision in (None, "", MAIN) and _FOLDER.fullmatch(path.name) and path.parent.name:
            return at_revision(path.parent.name, path.name)
        return at_revision(_short(model), str(revision or MAIN))

    def of_words(self, source: str, model: str, revision: str | None, step: int | None) -> Origin:
        """Find the checkpoint of a table's row.

        Raises:
            ValueError: the pattern is not found.
        """
        if self.pattern is not None:
            return self._by_pattern((model, source), model)
        if revision is None:
            return at_step(model, step)
        named = at_revision(model, revision)
        known = step is not None and step >= 0
        return Origin(model=model, revision=revision, step=step) if known else named

    def of_path(self, source: str) -> Origin:
        """Find the checkpoint by the path alone.

        Raises:
            ValueError: there is no pattern, or it does not find the model.
        """
        if self.pattern is None:
            raise ValueError("no results_*.json beside it says whose it is; give --model-pattern")
        return self._by_pattern((source,), None)

    def _by_pattern(self, texts: tuple[str, ...], model: str | None) -> Origin:
        assert self.pattern is not None
        found = next(filter(None, map(self.pattern.search, texts)), None)
        if found is None:
            raise ValueError(
                f"--model-pattern {self.pattern.pattern!r} is found in none of {', '.join(texts)}"
            )
        named = found.groupdict()
        model = named.get("model") or (_short(model) if model else None)
        if not model:
            raise ValueError(f"--model-pattern {self.pattern.pattern!r} finds no model here")
        step = named.get("step")
        if step and not step.isdecimal():
            raise ValueError(f"--model-pattern: the step that it finds is {step!r}, not a number")
        if step:
            return at_step(model, int(step))
        return at_revision(model, named.get("revision") or MAIN)


def read_pattern(text: str | None) -> Naming:
    """Check a pattern of the command line.

    Raises:
        UserError: it is no regular expression, or has none of the named groups.
    """
    if text is None:
        return Naming()
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UserError(f"--model-pattern: {text!r} is no regular expression ({error})") from error
    known = set(pattern.groupindex)
    if not known or known - set(GROUPS):
        raise UserError(
            f"--model-pattern: {text!r} has the named groups {sorted(known)}; allowed are "
            "(?P<model>...), (?P<revision>...) and (?P<step>...), at least one of them"
        )
    return Naming(pattern)


def _arguments(given: Any) -> dict[str, Any]:
    """Model arguments as a mapping; the harness writes them as text or as one."""
    if isinstance(given, Mapping):
        return dict(given)
    if not isinstance(given, str):
        return {}
    pairs = (part.partition("=") for part in given.split(","))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _short(model: str) -> str:
    """A hub repository (``org/name``, ``name``) in full, of a local path the last part."""
    path = PurePosixPath(model)
    is_local = model.startswith(("/", ".", "~")) or len(path.parts) > 2
    return path.name if is_local else model
