import hashlib
import subprocess
import sys

import pandas as pd
import pytest

from sweeper.errors import UserError
from sweeper.score import corpus
from sweeper.spec.corpus import FileCorpus, HubCorpus, TopicsCorpus

DOCUMENTS = ["One.", "", "NA", "Four, with a comma\u2028and a strange break."]


@pytest.fixture(params=[".parquet", ".jsonl", ".csv"])
def table(request, tmp_path):
    frame = pd.DataFrame({"text": DOCUMENTS, "number": [1, 2, 3, 4]})
    path = tmp_path / f"documents{request.param}"
    if request.param == ".parquet":
        frame.to_parquet(path)
    elif request.param == ".jsonl":
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_csv(path, index=False)
    return str(path)


def test_tables_give_their_documents_as_they_are(table):
    assert corpus.documents(FileCorpus(path=table)) == DOCUMENTS


def test_skip_and_limit_count_documents(table):
    spec = FileCorpus(path=table, skip=1, limit=2, join="|")
    assert corpus.text(spec) == "|NA"


def test_skipping_everything_is_an_error(table):
    with pytest.raises(UserError, match=r"^c\.skip: 4 leaves none of the 4 documents$"):
        corpus.documents(FileCorpus(path=table, skip=4), "c")


def test_a_missing_column_names_the_nearest(table):
    with pytest.raises(UserError, match=r"^corpus\.wiki\.column: .*did you mean text\?$"):
        corpus.check(FileCorpus(path=table, column="txt"), "corpus.wiki")


def test_numbers_are_not_text(tmp_path):
    path = tmp_path / "numbers.parquet"
    pd.DataFrame({"text": [1, 2]}).to_parquet(path)
    with pytest.raises(UserError, match=r"^c\.column: document 0 is 1; allowed: text$"):
        corpus.documents(FileCorpus(path=str(path)), "c")


def test_a_text_file_is_one_document_with_plain_line_ends(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(" = Title = \r\n\n é\n".encode())
    spec = FileCorpus(path=str(path))
    corpus.check(spec, "c")
    assert corpus.documents(spec) == [" = Title = \n\n é\n"]
    expected = hashlib.sha256(" = Title = \n\n é\n".encode()).hexdigest()
    assert corpus.fingerprint(spec) == f"sha256:{expected}"


def test_wikitext_is_read(shared):
    path = shared / "data" / "wikitext2" / "raw" / "wiki.test.raw"
    text = corpus.text(FileCorpus(path=str(path)))
    assert text.startswith(" = Robert Boulter = \n")
    assert "\r" not in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe", "is not UTF-8 text"),
        ("a.parquet", b"no", "is not valid parquet"),
        ("a.jsonl", b"{no\n", "is not valid jsonl"),
        ("a.jsonl", b"[1]\n", "line 1 is not an object"),
        ("a.csv", b"", "is not valid csv"),
        ("a.pdf", b"", "unknown extension '.pdf'"),
    ],
)
def test_broken_files_are_errors_of_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        corpus.documents(FileCorpus(path=str(tmp_path / name)), "corpus.c")
    assert str(caught.value).startswith("corpus.c.path: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_its_neighbour(tmp_path):
    (tmp_path / "wiki.raw").touch()
    with pytest.raises(UserError, match=r"is not a file; did you mean wiki\.raw\?$"):
        corpus.check(FileCorpus(path=str(tmp_path / "wiki.row")), "c")


def test_topics_are_in_the_order_of_their_names():
    from pydoc_data.topics import topics

    spec = TopicsCorpus(limit=2)
    corpus.check(spec, "c")
    assert corpus.documents(spec) == [topics[name] for name in sorted(topics)[:2]]
    assert len(corpus.text(TopicsCorpus())) > 400_000


def test_offline_without_a_cached_copy_is_said_plainly():
    # The test session is offline (conftest), so that the cache alone could answer.
    with pytest.raises(UserError, match=r"hub cannot be reached.*kind: file") as caught:
        corpus.check(HubCorpus(path="no-such/dataset", split="test"), "corpus.c")
    assert "\n" not in str(caught.value)


def test_local_text_needs_no_torch_and_no_datasets():
    code = (
        "import sys; from sweeper.score import corpus, pairs;"
        "from sweeper.spec.corpus import TopicsCorpus; corpus.text(TopicsCorpus());"
        "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
