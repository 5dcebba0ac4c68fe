"""Words that the error messages of a job share."""

import difflib
from collections.abc import Iterable
from typing import Any

_LONGEST_VALUE = 80


def dotted(path: Iterable[str | int]) -> str:
    """The key as it is written on the command line."""
    return ".".join(str(step) for step in path)


def shown(value: Any) -> str:
    """A value as it stands in a message, shortened."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def listed(words: Iterable[str]) -> str:
    """What is allowed, as a list."""
    return f"allowed: {', '.join(words) or 'none'}"


def hint(word: Any, allowed: Iterable[str], prefix: str = "") -> str:
    """The allowed word that was probably meant, as a question; nothing where none is near."""
    guess = difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {prefix}{guess[0]}?" if guess else ""


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())
