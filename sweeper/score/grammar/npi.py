"""Negative polarity items (ever, any): licensed only by a licensor that commands them."""

from sweeper.score.grammar.lexicon import (
    ACHIEVEMENTS,
    EXPERIENCES,
    GOT,
    LIKES,
    NAMES,
    PEOPLE,
    THINGS,
)
from sweeper.score.grammar.paradigm import Frame, Paradigm, permuted, sentence

Forms = tuple[str, str]
SUBJECTS = (*NAMES, *(f"the {noun[0]}" for noun in PEOPLE))
ANY = (
    "won any prizes",
    "read any books",
    "made any mistakes",
    "told any lies",
    "seen any whales",
    "had any luck",
    "lost any money",
    "asked any questions",
    "sold any cars",
    "written any letters",
)
MET = ("met", "saw", "visited", "thanked", "followed", "invited")


def _ever_relative(noun: Forms, other: Forms, like: Forms, experience: str) -> Frame:
    if noun == other:
        return ()
    clause = f"{other[1]} {like[1]} has ever {experience}"
    return permuted(f"no {noun[0]} that the {clause}", f"the {noun[0]} that no {clause}")


def _any_relative(noun: Forms, met: str, other: Forms, got: str, thing: Forms) -> Frame:
    if noun == other:
        return ()
    rest = f"{other[1]} {got} any {thing[1]}"
    return permuted(f"no {noun[0]} that {met} the {rest}", f"the {noun[0]} that {met} no {rest}")


def _negation_relative(noun: Forms, achievement: str, with_any: str) -> Frame:
    return permuted(
        f"the {noun[0]} that has {achievement} has not {with_any}",
        f"the {noun[0]} that has not {achievement} has {with_any}",
    )


def _only_even(subject: str, experience: str) -> Frame:
    """Alone, "only" licenses and "even" does not; under "not" it is the other way round."""
    rest = f"{subject} has ever {experience}"
    return (
        (sentence(f"only {rest}"), sentence(f"even {rest}")),
        (sentence(f"not even {rest}"), sentence(f"not only {rest}")),
    )


PARADIGMS = (
    Paradigm(
        uid="npi_ever_relative", slots=(PEOPLE, PEOPLE, LIKES, EXPERIENCES), frame=_ever_relative
    ),
    Paradigm(uid="npi_any_relative", slots=(PEOPLE, MET, PEOPLE, GOT, THINGS), frame=_any_relative),
    Paradigm(
        uid="npi_negation_relative",
        slots=(PEOPLE, ACHIEVEMENTS, ANY),
        frame=_negation_relative,
    ),
    Paradigm(uid="npi_only_even", slots=(SUBJECTS, EXPERIENCES), frame=_only_even),
)
