"""Filler-gap dependencies: a wh-word needs a gap, and "that" allows none."""

from sweeper.score.grammar.lexicon import LIKES, NAMES, PEOPLE, THINGS
from sweeper.score.grammar.paradigm import Frame, Paradigm, crossed

Forms = tuple[str, str]
KNOWS = ("knows", "remembers", "forgot", "noticed", "saw", "discovered")
# Verbs that do not stand without an object: otherwise the gap would be no fault.
GOT = ("found", "bought", "took", "fixed", "wanted", "used", "brought", "mentioned")
MET = ("met", "thanked", "invited", "praised", "blamed", "greeted", "hugged", "admired")
SAID = ("said", "thought", "believed", "claimed")


def _dependency(start: str, wh: str, clause: str, filled: str) -> Frame:
    """Gap or no gap, crossed with "what" (or "who") and "that"."""
    words = (wh, "that")
    ends = ("", f" {filled}")
    return crossed(lambda end, word: f"{start} {words[word]} {clause}{ends[end]}")


def _what(name: str, knows: str, noun: Forms, got: str, thing: Forms) -> Frame:
    return _dependency(f"{name} {knows}", "what", f"the {noun[0]} {got}", f"the {thing[0]}")


def _who(name: str, knows: str, noun: Forms, met: str, other: Forms) -> Frame:
    if noun == other:
        return ()
    return _dependency(f"{name} {knows}", "who", f"the {noun[0]} {met}", f"the {other[0]}")


def _what_long(
    name: str, knows: str, speaker: Forms, said: str, noun: Forms, got: str, thing: Forms
) -> Frame:
    if noun == speaker:
        return ()
    clause = f"the {speaker[0]} {said} the {noun[0]} {got}"
    return _dependency(f"{name} {knows}", "what", clause, f"the {thing[0]}")


def _what_relative(
    name: str, knows: str, noun: Forms, like: Forms, other: Forms, got: str, thing: Forms
) -> Frame:
    if noun == other:
        return ()
    clause = f"the {noun[0]} who {like[0]} the {other[1]} {got}"
    return _dependency(f"{name} {knows}", "what", clause, f"the {thing[0]}")


PARADIGMS = (
    Paradigm(uid="gap_what", slots=(NAMES, KNOWS, PEOPLE, GOT, THINGS), frame=_what),
    Paradigm(uid="gap_who", slots=(NAMES, KNOWS, PEOPLE, MET, PEOPLE), frame=_who),
    Paradigm(
        uid="gap_what_long_distance",
        slots=(NAMES, KNOWS, PEOPLE, SAID, PEOPLE, GOT, THINGS),
        frame=_what_long,
    ),
    Paradigm(
        uid="gap_what_across_relative",
        slots=(NAMES, KNOWS, PEOPLE, LIKES, PEOPLE, GOT, THINGS),
        frame=_what_relative,
    ),
)
