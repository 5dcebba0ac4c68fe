"""A toy language with agreement and with facts, its texts, its minimal pairs and its tokenizer.

Every sentence is

    the SUBJECT [PREPOSITION some THING] [ADVERB] VERB our OBJECT .

A subject is one of 32 persons, singular or plural; the verb is one of 24 lemmas and agrees with
the subject, whatever the number of the thing between them (an attractor). The object is one of the
two words of one of 24 pairs (apple or pear, boat or raft, ...): which one is a fact about the
person, drawn once for each language ("farmers have to do with boats, not rafts"), so that each word
is right for half of the persons. Lemma, pair and everything else are drawn evenly.

So a sentence holds two yes-or-no questions of the same form, both answered by its subject: the
verb's number (24 lemmas), and the object within its pair (24 pairs). They are the two tasks, with
the lemma and the pair as clusters and the template as group.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# fmt: off
PERSONS = [
    "actor", "author", "baker", "banker", "barber", "butcher", "clerk", "dancer", "doctor",
    "driver", "farmer", "gardener", "guard", "hunter", "judge", "lawyer", "miner", "nurse",
    "painter", "pilot", "plumber", "poet", "printer", "sailor", "singer", "soldier", "student",
    "tailor", "teacher", "waiter", "weaver", "writer",
]
LEMMAS = [
    "bring", "build", "call", "check", "clean", "cook", "draw", "drop", "find", "fold", "hide",
    "hold", "keep", "lend", "lift", "like", "move", "need", "paint", "sell", "send", "show",
    "take", "want",
]
PAIRS = [
    ("apple", "pear"), ("bell", "horn"), ("boat", "raft"), ("bread", "rice"), ("brush", "comb"),
    ("chair", "stool"), ("coat", "cape"), ("cup", "bowl"), ("door", "gate"), ("drum", "flute"),
    ("fork", "spoon"), ("hat", "cap"), ("key", "lock"), ("knife", "razor"), ("lamp", "candle"),
    ("map", "globe"), ("nail", "screw"), ("pen", "pencil"), ("plate", "tray"), ("ring", "chain"),
    ("rope", "cord"), ("shirt", "vest"), ("sword", "shield"), ("wheel", "axle"),
]
THINGS = [
    "bridge", "hill", "house", "river", "road", "tower", "tree", "wall",
]
# fmt: on

WORDS = {
    "the": ["the"],
    "subject": [form for person in PERSONS for form in (person, person + "s")],
    "preposition": ["behind", "beside", "near"],
    "some": ["some"],
    "thing": [form for thing in THINGS for form in (thing, thing + "s")],
    "adverb": ["always", "often", "rarely", "usually"],
    "verb": [form for lemma in LEMMAS for form in (lemma + "s", lemma)],
    "our": ["our"],
    "object": [word for pair in PAIRS for word in pair],
    "stop": ["."],
}
"""Word class -> words. Subjects: singular and plural in turn; verbs: the form that goes with a
singular, then with a plural; objects: first and second word of each pair."""

FOLLOWERS = {
    "the": {"subject": 1.0},
    "subject": {"preposition": 0.4, "adverb": 0.3, "verb": 0.3},
    "preposition": {"some": 1.0},
    "some": {"thing": 1.0},
    "thing": {"adverb": 0.5, "verb": 0.5},
    "adverb": {"verb": 1.0},
    "verb": {"our": 1.0},
    "our": {"object": 1.0},
    "object": {"stop": 1.0},
    "stop": {"the": 1.0},
}
"""Word class -> probability of each class that can follow: what ``Language.sentence`` writes."""

TEMPLATES = {
    "simple": (),
    "adverb": ("adverb",),
    "attractor": ("preposition", "some", "thing"),
    "attractor_adverb": ("preposition", "some", "thing", "adverb"),
}
"""What stands between subject and verb."""

UNKNOWN = "<unknown>"
VOCABULARY = [UNKNOWN, *(word for words in WORDS.values() for word in words)]
IDS = {word: index for index, word in enumerate(VOCABULARY)}

NUMBER: NDArray[np.int64] = np.tile([1, -1], len(PERSONS))
"""Number of each subject form: 1 singular, -1 plural, (64,)."""


@dataclass(frozen=True)
class Language:
    """The facts of one language, and a source of sentences."""

    facts_SP: NDArray[np.int64]
    """For each person and pair: 1 where the first word is right, -1 where the second, (32, 24)."""
    rng: np.random.Generator

    @cached_property
    def answers(self) -> NDArray[np.int64]:
        """Right answers (1 or -1) by subject form: 24 lemmas' number, then 24 facts, (64, 48)."""
        number = np.repeat(NUMBER[:, None], len(LEMMAS), axis=1)
        return np.concatenate([number, np.repeat(self.facts_SP, 2, axis=0)], axis=1)

    def text(self, num_sentences: int) -> str:
        """Sentences of all templates."""
        return " ".join(self._sentence() for _ in range(num_sentences))

    def pairs(self, task: str, per_cluster: int) -> pd.DataFrame:
        """Minimal pairs of "agreement" (up to the verb) or "facts" (up to the object).

        Columns are those of BLiMP: the cluster (lemma or pair) is ``UID``, the template
        ``linguistics_term``. Subjects, templates and all other words are drawn evenly.
        """
        names = LEMMAS if task == "agreement" else ["_".join(pair) for pair in PAIRS]
        rows = [
            (*self._pair(task, question), name, str(number))
            for question, name in enumerate(names)
            for number in range(per_cluster)
        ]
        columns = ["sentence_good", "sentence_bad", "linguistics_term", "UID", "pair_id"]
        return pd.DataFrame(rows, columns=columns)

    def _pair(self, task: str, question: int) -> tuple[str, str, str]:
        """Right sentence, wrong sentence, template."""
        template = str(self.rng.choice(list(TEMPLATES)))
        form = int(self.rng.integers(len(NUMBER)))
        front = ["the", WORDS["subject"][form], *map(self._any, TEMPLATES[template])]
        if task == "facts":
            front += [self._word("verb", form), "our"]
        kind = "verb" if task == "agreement" else "object"
        good, bad = (
            " ".join([*front, self._answer(kind, form, question, right=right)])
            for right in (True, False)
        )
        return good, bad, template

    def _sentence(self) -> str:
        form = int(self.rng.integers(len(NUMBER)))
        written = ["the", WORDS["subject"][form]]
        last = "subject"
        while last != "stop":
            chances = FOLLOWERS[last]
            last = str(self.rng.choice(list(chances), p=list(chances.values())))
            written.append(self._word(last, form))
        return " ".join(written)

    def _word(self, kind: str, form: int) -> str:
        if kind not in ("verb", "object"):
            return self._any(kind)
        return self._answer(kind, form, int(self.rng.integers(len(LEMMAS))), right=True)

    def _answer(self, kind: str, form: int, question: int, *, right: bool) -> str:
        """The verb of a lemma, or the object of a pair, that does or does not go with a subject."""
        column = question + (len(LEMMAS) if kind == "object" else 0)
        is_first = (self.answers[form, column] > 0) == right
        return WORDS[kind][2 * question + int(not is_first)]

    def _any(self, kind: str) -> str:
        return str(self.rng.choice(WORDS[kind]))


def draw_language(rng: np.random.Generator) -> Language:
    """Draw the facts: each word of a pair is right for half of the persons."""
    half = [1, -1] * (len(PERSONS) // 2)
    facts = np.stack([rng.permutation(half) for _ in PAIRS], axis=1)
    return Language(facts, rng)


def save_tokenizer(folder: Path) -> None:
    """Save a tokenizer with one token for each word, in Hugging Face format."""
    tokenizer = Tokenizer(models.WordLevel(IDS, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN).save_pretrained(folder)
