"""Subject-verb agreement, with and without nouns of the other number in between."""

from sweeper.score.grammar.lexicon import ACTS, HABITS, LIKES, PEOPLE, ROUTINES, STATES, TIMES
from sweeper.score.grammar.paradigm import Frame, Paradigm, crossed

Forms = tuple[str, str]
PLACES = ("near", "behind", "next to", "in front of")
CLAIMS = (("says", "say"), ("thinks", "think"), ("knows", "know"), ("believes", "believe"))


def _simple(noun: Forms, act: Forms, time: str) -> Frame:
    return crossed(lambda n, v: f"the {noun[n]} {act[v]} {time}")


def _prepositional_phrase(noun: Forms, place: str, other: Forms, act: Forms, time: str) -> Frame:
    if noun == other:
        return ()
    return crossed(lambda n, v: f"the {noun[n]} {place} the {other[1 - n]} {act[v]} {time}")


def _subject_relative(noun: Forms, like: Forms, other: Forms, act: Forms, time: str) -> Frame:
    if noun == other:
        return ()
    return crossed(lambda n, v: f"the {noun[n]} that {like[n]} the {other[1 - n]} {act[v]} {time}")


def _object_relative(noun: Forms, other: Forms, like: Forms, act: Forms, time: str) -> Frame:
    if noun == other:
        return ()
    return crossed(
        lambda n, v: f"the {noun[n]} that the {other[1 - n]} {like[1 - n]} {act[v]} {time}"
    )


def _inside_relative(noun: Forms, other: Forms, like: Forms, act: Forms, time: str) -> Frame:
    if noun == other:
        return ()
    return crossed(
        lambda n, v: f"the {other[1 - n]} that the {noun[n]} {like[v]} {act[1 - n]} {time}"
    )


def _coordination(noun: Forms, routine: Forms, habit: Forms) -> Frame:
    return crossed(lambda n, v: f"the {noun[n]} {routine[n]} and {habit[v]}")


def _past_be(noun: Forms, place: str, other: Forms, state: str, time: str) -> Frame:
    if noun == other:
        return ()
    was = ("was", "were")
    return crossed(lambda n, v: f"the {noun[n]} {place} the {other[1 - n]} {was[v]} {state} {time}")


def _complement(other: Forms, claim: Forms, noun: Forms, act: Forms, time: str) -> Frame:
    if noun == other:
        return ()
    return crossed(
        lambda n, v: f"the {other[1 - n]} {claim[1 - n]} that the {noun[n]} {act[v]} {time}"
    )


PARADIGMS = (
    Paradigm(uid="agreement_simple", slots=(PEOPLE, ACTS, TIMES), frame=_simple),
    Paradigm(
        uid="agreement_prepositional_phrase",
        slots=(PEOPLE, PLACES, PEOPLE, ACTS, TIMES),
        frame=_prepositional_phrase,
    ),
    Paradigm(
        uid="agreement_subject_relative",
        slots=(PEOPLE, LIKES, PEOPLE, ACTS, TIMES),
        frame=_subject_relative,
    ),
    Paradigm(
        uid="agreement_object_relative",
        slots=(PEOPLE, PEOPLE, LIKES, ACTS, TIMES),
        frame=_object_relative,
    ),
    Paradigm(
        uid="agreement_inside_object_relative",
        slots=(PEOPLE, PEOPLE, LIKES, ACTS, TIMES),
        frame=_inside_relative,
    ),
    Paradigm(
        uid="agreement_verb_phrase_coordination",
        slots=(PEOPLE, ROUTINES, HABITS),
        frame=_coordination,
    ),
    Paradigm(
        uid="agreement_past_be", slots=(PEOPLE, PLACES, PEOPLE, STATES, TIMES), frame=_past_be
    ),
    Paradigm(
        uid="agreement_complement_clause",
        slots=(PEOPLE, CLAIMS, PEOPLE, ACTS, TIMES),
        frame=_complement,
    ),
)
