import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sweeper.report.data import ReportData
from sweeper.report.examples import example_groups
from sweeper.report.write import write_report

EVIL = "</script><script>alert(1)</script>"


@pytest.fixture
def only_examples(empty: ReportData, study: ReportData) -> ReportData:
    return replace(empty, examples=study.examples, example_tokens=study.example_tokens)


def page_of(folder: Path, data: ReportData) -> str:
    return write_report(folder, data).html.read_text(encoding="utf-8")


def test_tokens_put_the_sentence_together_again(study: ReportData) -> None:
    first, second = example_groups(study)
    assert first.title == "blimp, top1 — smollm2-135m @ main"
    good, bad = first.examples[1].sentences
    assert "".join(span.text for span in good) == "The cats sleep & <purr>."
    assert [span.text for span in bad] == ["The", " cats", " sleeps", " &", " <purr>."]
    # The first word has no token of its own; the others change by -1.4, 0, 1.4, 2.8 nats.
    assert [span.style for span in good] == ["", "down2", "", "up2", "up3"]
    assert good[1].hint == "surprisal 3.00 → 1.60 nats (−1.40)"
    # Without tokens a sentence is one piece.
    assert [len(sentence) for sentence in second.examples[0].sentences] == [1, 1]
    assert second.examples[0].change == "−3.50"


def test_tokens_that_share_a_character_do_not_repeat_it(study: ReportData) -> None:
    tokens = study.example_tokens
    doubled = pd.concat([tokens, tokens.assign(position=tokens["position"] + 0.5)])
    group, _ = example_groups(replace(study, example_tokens=doubled))
    for example, plain in zip(group.examples, study.examples["text"], strict=False):
        assert "".join(span.text for span in example.sentences[0]) == plain


def test_the_page_runs_no_other_script_than_its_own(
    only_examples: ReportData, tmp_path: Path
) -> None:
    page = page_of(tmp_path, only_examples)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert not re.search(r"https?://", page)
    assert "fetch" not in script
    assert '<p id="example-filter" hidden>' in page


def test_texts_of_strangers_are_escaped(only_examples: ReportData, tmp_path: Path) -> None:
    examples = only_examples.examples.assign(text=EVIL, item_id=EVIL, group=EVIL)
    page = page_of(tmp_path, replace(only_examples, examples=examples))
    assert page.count("<script") == 1
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    assert "<script" not in (tmp_path / "tables" / "examples.md").read_text()


def test_a_store_without_texts_says_so(only_examples: ReportData, tmp_path: Path) -> None:
    examples = only_examples.examples.assign(text=None, text_bad=None)
    nothing = pd.DataFrame()
    bare = replace(only_examples, examples=examples, example_tokens=nothing)
    page = page_of(tmp_path, bare)
    assert page.count("The store has no text of this pair") == 6
    assert "npi/0" in page


def test_no_examples_no_script(empty: ReportData, tmp_path: Path) -> None:
    page = page_of(tmp_path, empty)
    assert "<script" not in page
    assert "script-src" not in page
