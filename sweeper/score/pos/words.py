"""Words of running English text with their places, in plain and in WikiText's writing.

WikiText sets punctuation and clitics apart ("John 's", "didn 't") and marks what was split inside a
word: "24 @-@ year" (24-year), "1 @,@ 000" (1,000), "0 @.@ 5" (0.5).
"""

import re
from collections.abc import Iterator, Sequence

Place = tuple[int, int]
"""Where a word begins and ends in its text."""

_NOT = r"n\ ?['’]t\b"
_CLITIC = r"['’](?:s|m|d|ll|re|ve)\b"
_ABBREVIATION = (
    "Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Lt|Capt|Sgt|Rev|Hon|Gov|Sen|Rep|Maj|Cmdr|Adm"
    "|Vol|Inc|Ltd|Co|Corp|Bros|vs|etc|pp|al|cf|ca|approx"
    "|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec"
)

_WORD = re.compile(
    rf"""
    <\w+>                                            # <unk>
    | @[-,.]@                                        # a mark of WikiText between letters
    | (?:https?://|www\.)\S*[\w/]                    # address of a page
    | \d+(?:(?:[.,]|\ @[.,]@\ )\d+)*\w*              # 7, 1,000, 1 @,@ 000, 20th, 1990s
    | \b(?:[^\W\d_]\.){{2,}}                         # U.S., e.g.
    | \b(?:{_ABBREVIATION})\.                        # Dr.
    | \bNos?\.(?=\ ?\d)                             # No. 7
    | \b[A-Z]\.(?=\ ?[A-Z])                          # an initial in front of a name
    | (?i:{_NOT})                                    # what is left of ca|n't, didn| 't: n't
    | (?i:\b(?:can(?=not\b) | gon(?=na\b) | got(?=ta\b) | wan(?=na\b)))
    | [^\W\d_]+?(?i:(?={_NOT}))                      # ca of can't, did of didn't
    | (?i:{_CLITIC})                                 # John|'s, they|'ll
    | [^\W\d_]+(?:['’](?!(?i:(?:s|m|d|ll|re|ve|t)\b))[^\W\d_]+)*\w*   # word, o'clock
    | \w+
    | \.{{2,}} | -{{2,}} | ``|'' | \S
    """,
    re.VERBOSE,
)

_ENDS = {".", "!", "?", "...", "…", ".."}
_CLOSERS = {'"', "'", "''", "”", "’", ")", "]"}
_STILL = _ENDS | _CLOSERS


def find_words(text: str) -> list[Place]:
    """Places of all words and punctuation marks; every visible character is in exactly one.

    Contractions are cut as in the Penn Treebank (did|n't, John|'s, can|not), hyphenated words at
    their hyphens as in Universal Dependencies.
    """
    return [match.span() for match in _WORD.finditer(text)]


def sentences(text: str, places: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """First and behind the last word of each sentence.

    A sentence ends at a line end, and behind a final mark with the quotes and brackets that close
    after it.
    """
    begin, final = 0, False
    for index in range(1, len(places)):
        before = text[slice(*places[index - 1])]
        final = before in _ENDS or (final and before in _CLOSERS)
        here = text[slice(*places[index])]
        gap = text[places[index - 1][1] : places[index][0]]
        if "\n" in gap or (final and here not in _STILL):
            yield begin, index
            begin, final = index, False
    if places:
        yield begin, len(places)
