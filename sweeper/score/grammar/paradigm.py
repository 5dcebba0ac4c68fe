"""A paradigm: word slots, and a function that turns one filling of them into minimal pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Pair = tuple[str, str]
"""The grammatical and the ungrammatical sentence."""
Frame = tuple[Pair, ...]
"""Pairs that belong together because only together they balance every word; empty where the chosen
words do not go together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paradigm:
    """One grammatical contrast."""

    uid: str
    slots: tuple[Sequence[Any], ...]
    """What each argument of ``frame`` may be."""
    frame: Callable[..., Frame]


def crossed(build: Callable[[int, int], str]) -> Frame:
    """The two pairs of a 2 x 2 design.

    ``build`` takes the form of the controller and of the critical word, 0 or 1 each; equal forms
    agree. Every form is thus right once and wrong once, and no single word tells good from bad.
    """
    return tuple((sentence(build(form, form)), sentence(build(form, 1 - form))) for form in (0, 1))


def permuted(good: str, bad: str) -> Frame:
    """One pair whose sentences hold the same words in another order."""
    return ((sentence(good), sentence(bad)),)


def sentence(text: str) -> str:
    """Capital letter first, period last."""
    return f"{text[0].upper()}{text[1:]}."
