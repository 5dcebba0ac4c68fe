import logging

import pandas as pd
import pytest

from sweeper.errors import UserError
from sweeper.score.grammar import PAIRS_PER_PARADIGM, PARADIGMS
from sweeper.score.pairs import check, fingerprint, load_pairs
from sweeper.spec.task import Columns, FilePairs, GrammarPairs, HubPairs, MinimalPairsSpec

ROWS = pd.DataFrame(
    {
        "good": ["a", "b", "c", "d", "e"],
        "bad": ["A", "B", "C", "D", "E"],
        "kind": ["y", "x", "y", "x", "x"],
        "phenomenon": ["p", "q", "p", "q", "q"],
        "number": [7, 7, 8, 8, 9],
    }
)
COLUMNS = {"good": "good", "bad": "bad", "cluster": "kind", "group": "phenomenon", "id": "number"}


@pytest.fixture(params=[".parquet", ".jsonl", ".csv"])
def source(request, tmp_path):
    path = tmp_path / f"pairs{request.param}"
    return FilePairs(path=write(ROWS, path))


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    return str(path)


def spec_of(source, limit=None, **columns):
    return MinimalPairsSpec(source=source, columns=Columns(**{**COLUMNS, **columns}), limit=limit)


def test_pairs_are_named_and_in_file_order(source):
    spec = spec_of(source)
    check(spec, "suite.s")
    pairs = load_pairs(spec)
    assert list(pairs.columns) == ["item", "item_id", "group", "cluster", "good", "bad"]
    assert pairs["item"].tolist() == [0, 1, 2, 3, 4]
    assert pairs["item_id"].tolist() == ["y/7", "x/7", "y/8", "x/8", "x/9"]
    assert pairs["group"].tolist() == ["p", "q", "p", "q", "q"]
    assert pairs["good"].tolist() == ["a", "b", "c", "d", "e"]
    assert pairs["bad"].tolist() == ["A", "B", "C", "D", "E"]


def test_limit_takes_the_first_of_each_cluster(source):
    pairs = load_pairs(spec_of(source, limit=2))
    assert pairs["item_id"].tolist() == ["y/7", "x/7", "y/8", "x/8"]
    assert pairs["item"].tolist() == [0, 1, 2, 3]


def test_without_id_the_position_in_the_cluster_counts(source):
    pairs = load_pairs(spec_of(source, id=None))
    assert pairs["item_id"].tolist() == ["y/0", "x/0", "y/1", "x/1", "x/2"]


def test_without_cluster_and_group_each_pair_stands_alone(source):
    pairs = load_pairs(spec_of(source, cluster=None, group=None, id=None, limit=3))
    assert pairs["item_id"].tolist() == pairs["cluster"].tolist() == ["0", "1", "2"]
    assert set(pairs["group"]) == {"all"}


def test_ids_that_repeat_are_an_error(source):
    with pytest.raises(UserError, match=r"^s\.columns\.id: 'number' names '7' twice"):
        load_pairs(spec_of(source, cluster=None), "s")


def test_a_missing_column_names_the_nearest(source):
    expected = r"^suite\.s\.columns\.good: .* has no column 'goode'; .*did you mean good\?$"
    with pytest.raises(UserError, match=expected):
        check(spec_of(source, good="goode"), "suite.s")


def test_pairs_without_a_sentence_are_dropped_and_counted(tmp_path, caplog):
    rows = ROWS.astype(object)
    rows.loc[0, "bad"] = None
    rows.loc[1, "good"] = ""
    rows.loc[3, "bad"] = "None"
    source = FilePairs(path=write(rows, tmp_path / "pairs.jsonl"))
    with caplog.at_level(logging.INFO):
        pairs = load_pairs(spec_of(source, id=None), "suite.s")
    assert pairs["item_id"].tolist() == ["y/1", "x/2"]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "suite.s: 2 of 5 pairs lack a sentence"),
        ("INFO", 'suite.s: 1 of 5 pairs are dropped: "None"'),
    ]


def test_a_null_cluster_and_a_number_as_sentence_are_errors(tmp_path):
    rows = ROWS.astype(object)
    rows.loc[2, "kind"] = None
    source = FilePairs(path=write(rows, tmp_path / "pairs.jsonl"))
    with pytest.raises(UserError, match=r"^suite\.columns\.cluster: 'kind' is null in row 2"):
        load_pairs(spec_of(source))
    with pytest.raises(UserError, match=r"^suite\.columns\.good: 7 is not text$"):
        load_pairs(spec_of(source, good="number", cluster=None, id=None))


def test_the_fingerprint_covers_sentences_names_and_order(source):
    pairs = load_pairs(spec_of(source))
    assert fingerprint(pairs) == fingerprint(load_pairs(spec_of(source)))
    assert fingerprint(pairs).startswith("sha256:")
    others = [
        load_pairs(spec_of(source, limit=1)),
        load_pairs(spec_of(source, group=None)),
        load_pairs(spec_of(source, good="bad", bad="good")),
    ]
    assert len({fingerprint(table) for table in [pairs, *others]}) == 4


def test_the_fingerprint_does_not_depend_on_the_file_format(tmp_path):
    prints = {
        fingerprint(load_pairs(spec_of(FilePairs(path=write(ROWS, tmp_path / f"p{ending}")))))
        for ending in (".parquet", ".jsonl", ".csv")
    }
    assert len(prints) == 1


def test_the_grammar_needs_no_settings():
    spec = MinimalPairsSpec(source=GrammarPairs(), limit=20)
    check(spec, "suite.grammar")
    pairs = load_pairs(spec)
    num_paradigms = sum(len(paradigms) for paradigms in PARADIGMS.values())
    assert len(pairs) == 20 * num_paradigms < PAIRS_PER_PARADIGM * num_paradigms
    assert set(pairs["group"]) == set(PARADIGMS)
    with pytest.raises(UserError, match="did you mean UID"):
        check(MinimalPairsSpec(source=GrammarPairs(), columns=Columns(cluster="UIDs")), "s")


def test_blimp_is_read(shared):
    source = FilePairs(path=str(shared / "data" / "blimp" / "blimp.parquet"))
    spec = MinimalPairsSpec(source=source, limit=20)
    check(spec, "suite.blimp")
    pairs = load_pairs(spec)
    assert len(pairs) == 20 * 67
    assert pairs["item_id"].is_unique
    assert pairs["item_id"].iloc[0] == "adjunct_island/0"
    assert pairs["good"].iloc[0] == "Who should Derek hug after shocking Richard?"


def test_tse_is_read_without_an_id(shared):
    source = FilePairs(path=str(shared / "data" / "tse" / "tse.parquet"))
    pairs = load_pairs(spec_of(source, cluster="template", group="template", id=None))
    assert len(pairs) == 158_084
    assert pairs["cluster"].nunique() == 22
    assert pairs["item_id"].is_unique


def test_offline_without_a_cached_copy_is_said_plainly():
    spec = MinimalPairsSpec(source=HubPairs(path="no-such/pairs", configs="all"))
    with pytest.raises(UserError, match=r"^suite\.s\.source\.path: the hub cannot be reached"):
        check(spec, "suite.s")


def test_a_group_named_all_is_refused(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("sentence_good,sentence_bad,UID,linguistics_term,pair_id\na,b,c,all,1\n")
    spec = MinimalPairsSpec(source=FilePairs(path=str(file)))
    with pytest.raises(UserError, match=r"^suite\.columns\.group: column 'linguistics_term' has a"):
        load_pairs(spec)
