"""Special tokens and windows, over tokenizers with different habits."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from sweeper.errors import UserError
from sweeper.score.tokens import NO_SPAN, encode, spans, window_spans, windows

END = "<|endoftext|>"
PREFIXES = ("tokenizer", "bos", "none")
NAMES = ("pythia", "gpt2", "opt", "both_ends", "no_bos", "stories", "tiny")
WORDS = st.sampled_from(
    ["the", "cat ", " ", "sees", "\n", "a", "née", "🙂", ".", "  ", "Dogs", "日本"]
)
TEXTS = st.lists(WORDS, max_size=40).map("".join)


def pythia(shared: Path, **special: str) -> PreTrainedTokenizerFast:
    file = shared / "data" / "tokenizer" / "20B_tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), **special)


def gpt2(shared: Path) -> GPT2Tokenizer:
    folder = shared / "data" / "tokenizer" / "gpt2"
    return GPT2Tokenizer(vocab=str(folder / "encoder.json"), merges=str(folder / "vocab.bpe"))


def templated(shared: Path, template: str, **special: str) -> PreTrainedTokenizerFast:
    """Pythia's vocabulary with another habit: OPT's BOS, or special tokens at both ends."""
    tokenizer = pythia(shared, **special)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=[(END, 0)]
    )
    return tokenizer


@pytest.fixture(scope="module")
def tokenizers(shared, tmp_path_factory) -> dict[str, PreTrainedTokenizerFast]:
    tiny = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tiny)
    return {
        "pythia": pythia(shared, bos_token=END, eos_token=END),
        "gpt2": gpt2(shared),
        "opt": templated(shared, f"{END} $A", bos_token=END, eos_token=END),
        "both_ends": templated(shared, f"{END} $A {END}", bos_token=END, eos_token=END),
        "no_bos": pythia(shared, eos_token=END),
        "stories": AutoTokenizer.from_pretrained(shared / "models" / "stories260K"),
        "tiny": AutoTokenizer.from_pretrained(tiny),
    }


@pytest.mark.parametrize(
    ("name", "before", "behind"),
    [
        ("pythia", 0, 0),
        ("gpt2", 0, 0),
        ("opt", 1, 0),
        ("both_ends", 1, 1),
        ("no_bos", 0, 0),
        ("stories", 1, 0),
        ("tiny", 0, 0),
    ],
)
def test_prefixes(tokenizers, name, before, behind):
    tokenizer, texts = tokenizers[name], ["the cat", ""]
    end = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    bare = encode(tokenizer, texts, "none")
    assert bare[1] == []
    assert tokenizer.decode(bare[0]).strip() == "the cat"
    assert encode(tokenizer, texts, "bos") == [[end, *row] for row in bare]
    own = encode(tokenizer, texts)
    assert own == [[end] * before + row + [end] * behind for row in bare]
    assert own == tokenizer(texts)["input_ids"]


def test_a_tokenizer_without_either_end_is_named(shared):
    tokenizer = pythia(shared)
    with pytest.raises(UserError, match=r"neither; allowed are tokenizer and none$"):
        encode(tokenizer, ["the cat"], "bos")
    assert encode(tokenizer, ["the cat"], "none") == encode(tokenizer, ["the cat"])


def test_no_texts(tokenizers):
    assert encode(tokenizers["gpt2"], []) == []
    assert spans(tokenizers["gpt2"], []) == []


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(text=TEXTS, length=st.integers(2, 12))
def test_windows_hold_every_token_once(tokenizers, name, prefix, text, length):
    tokenizer = tokenizers[name]
    cut = windows(tokenizer, text, length, length, None, prefix)
    assert all(2 <= len(row) <= length for row in cut)
    assert all(len(row) == length for row in cut[:-1])
    num_front = int(prefix == "bos")
    whole = encode(tokenizer, [text], prefix)[0]
    assert all(row[:num_front] == whole[:num_front] for row in cut)
    held = [token for row in cut for token in row[num_front:]]
    body = whole[num_front:]
    if prefix == "bos":
        # Every token of the text is behind another one: all are scored.
        assert held == body
    else:
        # Scored, or the first of a window; a last one that would be alone is left out.
        alone = len(body) % length == 1
        assert held == body[: len(body) - alone]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(text=TEXTS, length=st.integers(2, 12))
def test_spans_stand_beside_their_tokens(tokenizers, name, prefix, text, length):
    tokenizer = tokenizers[name]
    (row,), (places,) = (function(tokenizer, [text], prefix) for function in (encode, spans))
    assert len(places) == len(row)
    special = [place == NO_SPAN for place in places]
    assert sum(special) == len(row) - len(encode(tokenizer, [text], "none")[0])
    known = [place for place in places if place != NO_SPAN]
    assert known == sorted(known)
    assert all(0 <= begin <= end <= len(text) for begin, end in known)
    rows = windows(tokenizer, text, length, length, 3, prefix)
    cut = window_spans(tokenizer, text, length, length, 3, prefix)
    assert [len(part) for part in cut] == [len(part) for part in rows]
    pairs = list(zip(row, places, strict=True))
    # Each window stands in the text where its tokens do.
    num_front = int(prefix == "bos")
    found = [
        pair
        for ids, part in zip(rows, cut, strict=True)
        for pair in list(zip(ids, part, strict=True))[num_front:]
    ]
    assert found == pairs[num_front:][: len(found)]


@pytest.mark.parametrize("name", NAMES)
def test_spans_are_the_words(tokenizers, name):
    text = "the old man sees a small house near the river"
    tokenizer = tokenizers[name]
    (row,), (places,) = encode(tokenizer, [text], "bos"), spans(tokenizer, [text], "bos")
    assert places[0] == NO_SPAN
    for token, (begin, end) in zip(row[1:], places[1:], strict=True):
        assert text[begin:end].strip() == tokenizer.decode([token]).strip()


def test_a_tokenizer_that_knows_no_characters(tokenizers):
    class Slow:
        is_fast = False

    assert spans(Slow(), ["the cat"]) is None
    assert window_spans(Slow(), "the cat", 4, 4, None) is None


class Letters:
    """A tokenizer with a token per letter, enough to see how windows are cut."""

    def __call__(self, texts, add_special_tokens, verbose):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


@pytest.mark.parametrize(
    ("text", "length", "stride", "expected"),
    [
        ("abcdefgh", 4, 4, ["abcd", "efgh"]),
        ("abcdefghij", 4, 4, ["abcd", "efgh", "ij"]),
        ("abcdefghi", 4, 4, ["abcd", "efgh"]),  # one token has nothing to predict
        ("abcdefgh", 4, 2, ["abcd", "cdef", "efgh"]),  # and no window without new text
        ("abcdefg", 4, 2, ["abcd", "cdef", "efg"]),
        ("abc", 4, 4, ["abc"]),
        ("a", 4, 4, []),
        ("", 4, 4, []),
    ],
)
def test_windows(text, length, stride, expected):
    cut = windows(Letters(), text, length, stride, None)
    assert ["".join(map(chr, row)) for row in cut] == expected
    assert windows(Letters(), text, length, stride, 1) == cut[:1]
