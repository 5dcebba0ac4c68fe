"""Ellipsis: what is left out must be recoverable from the first clause."""

from sweeper.score.grammar.lexicon import (
    ADJECTIVES,
    COUNTS,
    DOINGS,
    GOT,
    NAMES,
    PEOPLE,
    STATES,
    THINGS,
)
from sweeper.score.grammar.paradigm import Frame, Paradigm, crossed, permuted

Forms = tuple[str, str]
MET = ("met", "thanked", "invited", "praised", "hugged")
UNSURE = ("does not know", "did not say", "cannot remember", "will not tell us")


def _noun(name: str, other: str, got: str, counts: Forms, adjective: str, thing: Forms) -> Frame:
    """The noun may be left out after a number, but not after a number and an adjective."""
    if name == other:
        return ()
    few, many = counts
    return permuted(
        f"{name} {got} {few} {adjective} {thing[1]} and {other} {got} {many}",
        f"{name} {got} {few} {thing[1]} and {other} {got} {many} {adjective}",
    )


def _auxiliary(name: str, other: str, state: str, doing: Forms) -> Frame:
    if name == other:
        return ()
    first = (f"was {state}", doing[0])
    auxiliary = ("was", "did")
    return crossed(lambda verb, aux: f"{name} {first[verb]}, and {other} {auxiliary[aux]} too")


def _polarity(name: str, other: str, doing: Forms) -> Frame:
    if name == other:
        return ()
    first = (doing[0], f"did not {doing[1]}")
    link = ("so", "neither")
    return crossed(lambda negated, so: f"{name} {first[negated]}, and {link[so]} did {other}")


def _sluicing(noun: Forms, got: str, met: str, other: str, unsure: str) -> Frame:
    """The wh-word left behind asks for what the first clause left open."""
    first = (f"{got} something", f"{met} someone")
    wh = ("what", "who")
    return crossed(
        lambda kind, word: f"the {noun[0]} {first[kind]}, but {other} {unsure} {wh[word]}"
    )


NUMBERS = tuple((few, many) for few in COUNTS for many in COUNTS if few != many)
PARADIGMS = (
    Paradigm(
        uid="ellipsis_noun", slots=(NAMES, NAMES, GOT, NUMBERS, ADJECTIVES, THINGS), frame=_noun
    ),
    Paradigm(uid="ellipsis_auxiliary", slots=(NAMES, NAMES, STATES, DOINGS), frame=_auxiliary),
    Paradigm(uid="ellipsis_polarity", slots=(NAMES, NAMES, DOINGS), frame=_polarity),
    Paradigm(uid="ellipsis_sluicing", slots=(PEOPLE, GOT, MET, NAMES, UNSURE), frame=_sluicing),
)
