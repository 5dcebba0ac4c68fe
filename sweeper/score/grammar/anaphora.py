"""Reflexives and reciprocals: number, gender, and binding within the own clause."""

from sweeper.score.grammar.lexicon import FEMALE_NAMES, LIKES, MALE_NAMES, MEN, WOMEN
from sweeper.score.grammar.paradigm import Frame, Paradigm, crossed

Forms = tuple[str, str]
PAST = (
    "hurt {} in the garden",
    "saw {} in the mirror",
    "blamed {} for the accident",
    "washed {} in the river",
    "introduced {} to the guests",
    "found {} in a strange place",
    "got {} into trouble",
    "locked {} in the kitchen",
)
TIMES = ("yesterday", "last night", "this morning", "last week", "on Sunday")
PRESENT = (
    ("admires {}", "admire {}"),
    ("blames {} for the accident", "blame {} for the accident"),
    ("sees {} in the mirror", "see {} in the mirror"),
    ("protects {} from the cold", "protect {} from the cold"),
    ("praises {} in the letter", "praise {} in the letter"),
    ("understands {} very well", "understand {} very well"),
)
CLAIMS = (("says", "say"), ("thinks", "think"), ("knows", "know"), ("believes", "believe"))
HIMSELF = ("himself", "themselves")
HERSELF = ("herself", "themselves")
GENDERS = ("herself", "himself")
KIN = tuple((woman[0], man[0]) for woman, man in zip(WOMEN, MEN, strict=True))
"""(female, male) nouns."""
NAMES = tuple(zip(FEMALE_NAMES, MALE_NAMES, strict=True))
SEXES = ((WOMEN, HERSELF), (MEN, HIMSELF))
SUBJECTS = tuple((noun, reflexive) for nouns, reflexive in SEXES for noun in nouns)
RIVALS = tuple(
    (noun, other, reflexive)
    for nouns, reflexive in SEXES
    for noun in nouns
    for other in nouns
    if noun != other
)
"""Two nouns of one gender, so that number alone tells which of them is meant."""


def _number(subject: tuple[Forms, Forms], act: str) -> Frame:
    noun, reflexive = subject
    return crossed(lambda n, r: f"the {noun[n]} {act.format(reflexive[r])}")


def _number_relative(rivals: tuple[Forms, Forms, Forms], like: Forms, act: Forms) -> Frame:
    noun, other, reflexive = rivals
    return crossed(
        lambda n, r: (
            f"the {noun[n]} that the {other[1 - n]} {like[1 - n]} {act[n].format(reflexive[r])}"
        )
    )


def _number_complement(rivals: tuple[Forms, Forms, Forms], claim: Forms, act: str) -> Frame:
    noun, other, reflexive = rivals
    return crossed(
        lambda n, r: (
            f"the {other[1 - n]} {claim[1 - n]} that the {noun[n]} {act.format(reflexive[r])}"
        )
    )


def _gender(name: Forms, act: str, time: str) -> Frame:
    return crossed(lambda g, r: f"{name[g]} {act.format(GENDERS[r])} {time}")


def _gender_relative(noun: Forms, other: Forms, like: Forms, act: Forms) -> Frame:
    if noun == other:
        return ()
    return crossed(
        lambda g, r: f"the {noun[g]} that the {other[1 - g]} {like[0]} {act[0].format(GENDERS[r])}"
    )


def _reciprocal(rivals: tuple[Forms, Forms, Forms], like: Forms, act: Forms) -> Frame:
    noun, other, reflexive = rivals
    anaphors = (reflexive[0], "each other")
    return crossed(
        lambda n, r: (
            f"the {noun[n]} that the {other[1 - n]} {like[1 - n]} {act[n].format(anaphors[r])}"
        )
    )


PARADIGMS = (
    Paradigm(uid="reflexive_number", slots=(SUBJECTS, PAST), frame=_number),
    Paradigm(
        uid="reflexive_number_relative", slots=(RIVALS, LIKES, PRESENT), frame=_number_relative
    ),
    Paradigm(
        uid="reflexive_number_complement", slots=(RIVALS, CLAIMS, PAST), frame=_number_complement
    ),
    Paradigm(uid="reflexive_gender", slots=(NAMES, PAST, TIMES), frame=_gender),
    Paradigm(
        uid="reflexive_gender_relative", slots=(KIN, KIN, LIKES, PRESENT), frame=_gender_relative
    ),
    Paradigm(uid="reciprocal_relative", slots=(RIVALS, LIKES, PRESENT), frame=_reciprocal),
)
