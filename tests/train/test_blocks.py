import pytest
import torch

from sweeper.train.blocks import Blocks, cut
from sweeper.train.tokenizer import END, for_transformers, train_tokenizer

TEXTS = ["the cat sees the dogs", "no student ever laughs", "the students laugh every day"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 280)


def test_rows_are_the_documents_with_their_ends(tokenizer):
    rows = cut(tokenizer, TEXTS, 7)
    text = "".join(text + END for text in TEXTS)
    ids = for_transformers(tokenizer)(text)["input_ids"]
    assert rows.flatten().tolist() == ids[: rows.numel()]
    assert rows.shape == (len(ids) // 8, 8)


def test_all_bytes_have_tokens(tokenizer):
    text = "Żółć 猫\x00\t"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.token_to_id(END) == 0
    assert tokenizer.get_vocab_size() == 280


def test_every_pass_reads_each_row_once_in_an_order_of_its_own():
    rows = torch.arange(10)[:, None].expand(10, 4)
    blocks = Blocks(rows, 4, seed=0)
    read = torch.cat([blocks.of_step(step)[:, 0] for step in range(10)]).tolist()
    passes = [read[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 4


def test_a_step_reads_the_same_whatever_came_before():
    rows = torch.arange(30).view(10, 3)
    straight = Blocks(rows, 4, seed=7)
    in_order = [straight.of_step(step) for step in range(9)]
    for step in (8, 0, 5, 2):
        assert torch.equal(Blocks(rows, 4, seed=7).of_step(step), in_order[step])
    assert not torch.equal(Blocks(rows, 4, seed=8).of_step(0), in_order[0])
