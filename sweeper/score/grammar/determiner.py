"""Number agreement between a demonstrative and its noun."""

from sweeper.score.grammar.lexicon import ADJECTIVES, GOT, NAMES, THINGS
from sweeper.score.grammar.paradigm import Frame, Paradigm, crossed

Forms = tuple[str, str]
DEMONSTRATIVES = (("this", "these"), ("that", "those"))


def _determiner(name: str, got: str, thing: Forms, which: Forms) -> Frame:
    return crossed(lambda n, d: f"{name} {got} {which[d]} {thing[n]}")


def _determiner_adjective(name: str, got: str, thing: Forms, which: Forms, adjective: str) -> Frame:
    return crossed(lambda n, d: f"{name} {got} {which[d]} {adjective} {thing[n]}")


def _noun(name: str, got: str, thing: Forms, which: Forms) -> Frame:
    return crossed(lambda d, n: f"{name} {got} {which[d]} {thing[n]}")


def _noun_adjective(name: str, got: str, thing: Forms, which: Forms, adjective: str) -> Frame:
    return crossed(lambda d, n: f"{name} {got} {which[d]} {adjective} {thing[n]}")


PLAIN = (NAMES, GOT, THINGS, DEMONSTRATIVES)
PARADIGMS = (
    Paradigm(uid="determiner_choice", slots=PLAIN, frame=_determiner),
    Paradigm(
        uid="determiner_choice_adjective",
        slots=(*PLAIN, ADJECTIVES),
        frame=_determiner_adjective,
    ),
    Paradigm(uid="determiner_noun", slots=PLAIN, frame=_noun),
    Paradigm(uid="determiner_noun_adjective", slots=(*PLAIN, ADJECTIVES), frame=_noun_adjective),
)
