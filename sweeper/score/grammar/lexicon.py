"""Frequent, simple words. Where a word has forms, they are (singular, plural)."""

PEOPLE = (
    ("teacher", "teachers"),
    ("doctor", "doctors"),
    ("farmer", "farmers"),
    ("student", "students"),
    ("driver", "drivers"),
    ("singer", "singers"),
    ("artist", "artists"),
    ("lawyer", "lawyers"),
    ("boy", "boys"),
    ("girl", "girls"),
    ("nurse", "nurses"),
    ("writer", "writers"),
)
WOMEN = (
    ("girl", "girls"),
    ("woman", "women"),
    ("queen", "queens"),
    ("mother", "mothers"),
    ("sister", "sisters"),
    ("aunt", "aunts"),
    ("grandmother", "grandmothers"),
    ("actress", "actresses"),
)
MEN = (
    ("boy", "boys"),
    ("man", "men"),
    ("king", "kings"),
    ("father", "fathers"),
    ("brother", "brothers"),
    ("uncle", "uncles"),
    ("grandfather", "grandfathers"),
    ("actor", "actors"),
)
FEMALE_NAMES = ("Mary", "Anna", "Lisa", "Emma", "Susan", "Sarah", "Linda", "Julia")
MALE_NAMES = ("John", "Peter", "Paul", "Tom", "David", "Michael", "James", "Robert")
NAMES = FEMALE_NAMES + MALE_NAMES

THINGS = (
    ("cup", "cups"),
    ("book", "books"),
    ("car", "cars"),
    ("coat", "coats"),
    ("lamp", "lamps"),
    ("chair", "chairs"),
    ("knife", "knives"),
    ("box", "boxes"),
    ("picture", "pictures"),
    ("clock", "clocks"),
    ("bag", "bags"),
    ("hat", "hats"),
)
ADJECTIVES = ("old", "new", "small", "big", "red", "blue", "green", "cheap")
COUNTS = ("two", "three", "four", "five", "six")
GOT = ("bought", "found", "sold", "lost", "wanted", "needed", "liked", "took")

ACTS = (
    ("laughs", "laugh"),
    ("smiles", "smile"),
    ("sings", "sing"),
    ("dances", "dance"),
    ("works", "work"),
    ("runs", "run"),
    ("swims", "swim"),
    ("waits", "wait"),
    ("sleeps", "sleep"),
    ("cooks", "cook"),
)
LIKES = (
    ("likes", "like"),
    ("loves", "love"),
    ("admires", "admire"),
    ("trusts", "trust"),
    ("respects", "respect"),
    ("visits", "visit"),
    ("hates", "hate"),
    ("follows", "follow"),
)
TIMES = ("every day", "in the morning", "in the evening", "after lunch", "on Sundays")

ROUTINES = (
    ("gets up early", "get up early"),
    ("reads the news", "read the news"),
    ("plays the old piano", "play the old piano"),
    ("lives near the river", "live near the river"),
    ("drinks coffee in the kitchen", "drink coffee in the kitchen"),
    ("writes long letters to old friends", "write long letters to old friends"),
    ("comes home late", "come home late"),
    ("watches the birds", "watch the birds"),
)
# No third person here may double as a plural noun: "watch the birds and smiles" could be read as
# a (strange) coordination of two nouns.
HABITS = (
    ("sings old songs", "sing old songs"),
    ("eats a big breakfast", "eat a big breakfast"),
    ("goes to the market", "go to the market"),
    ("speaks to the children", "speak to the children"),
    ("listens to the radio", "listen to the radio"),
    ("makes bread", "make bread"),
    ("writes short poems", "write short poems"),
    ("teaches music", "teach music"),
)

EXPERIENCES = (
    "seen a whale",
    "been to London",
    "won a prize",
    "told a lie",
    "lived in a big city",
    "driven a truck",
    "flown a plane",
    "read this book",
    "broken a promise",
    "worked in a factory",
)
ACHIEVEMENTS = (
    "finished the work",
    "found the key",
    "sold the house",
    "seen the film",
    "lost the game",
    "read the letter",
    "met the queen",
    "left the town",
)

DOINGS = (
    ("cooked dinner", "cook dinner"),
    ("read a book", "read a book"),
    ("wrote a letter", "write a letter"),
    ("played chess", "play chess"),
    ("painted a picture", "paint a picture"),
    ("ate an apple", "eat an apple"),
    ("drank coffee", "drink coffee"),
    ("sang a song", "sing a song"),
    ("washed the dishes", "wash the dishes"),
    ("watched a film", "watch a film"),
)
"""(past, base form)."""
STATES = ("tired", "happy", "angry", "late", "ill", "hungry", "busy", "afraid")
