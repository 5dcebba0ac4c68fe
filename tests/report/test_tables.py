import io

import pandas as pd
import pytest
from rich.console import Console

from sweeper.report.tables import effect_rows, terminal_table
from sweeper.report.text_table import markdown_table

WIDTH = 80


def printed(estimates: pd.DataFrame, levels: pd.DataFrame) -> str:
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    console.print(terminal_table(estimates, levels))
    return console.export_text()


def test_terminal_table_fits_and_shows_every_condition(
    estimates: pd.DataFrame, levels: pd.DataFrame
) -> None:
    text = printed(estimates, levels)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "…" not in text
    for name in ("baseline", "wd_top", "skew_top", "random"):
        assert sum(line.startswith(f" {name} ") for line in text.splitlines()) == 4
    assert text.count("(floor 0.091)") == 8
    assert "smollm2 @ main" in text
    assert "pythia-70m @ main" in text


def test_terminal_table_shows_perplexity_as_a_factor(
    estimates: pd.DataFrame, levels: pd.DataFrame
) -> None:
    whole = estimates[(estimates["metric"] == "nll") & (estimates["condition"] == "wd_top")]
    text = printed(whole, levels)
    assert f"× {whole['ratio'].iloc[0]:.3f}" in text
    assert "22.20" in text


def test_terminal_table_keeps_numbers_whole_beside_long_names_and_large_numbers(
    estimates: pd.DataFrame, levels: pd.DataFrame
) -> None:
    long = "negative_clamp_of_the_top_one_percent_of_all_neurons_by_distance"
    frame = estimates.assign(
        condition=estimates["condition"].replace("wd_top", long),
        num_items=1_234_567,
        num_clusters=67_000,
        seed_low=-0.4567,
        seed_high=-0.1234,
        cluster_low=-0.4567,
        cluster_high=-0.1234,
    )
    text = printed(frame, levels)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "…" not in text
    assert "[−45.67, −12.34]" in text
    assert "1,234,567" in text


def test_brackets_in_names_are_no_markup(estimates: pd.DataFrame, levels: pd.DataFrame) -> None:
    names = estimates["condition"].replace("wd_top", "[red]x[/]")
    assert "[red]x[/]" in printed(estimates.assign(condition=names), levels)


def test_terminal_table_without_estimates_says_so() -> None:
    assert "No estimates yet" in printed(pd.DataFrame(), pd.DataFrame())


def test_missing_values_are_dashes_with_counts(estimates: pd.DataFrame) -> None:
    rows = effect_rows(estimates)
    single = rows[(rows["group"] == "ellipsis") & (rows["condition"] == "wd_top")].iloc[0]
    assert single["cluster interval"] == "–"
    assert single["bootstrap interval"] == "–"
    assert single["seed interval"] == "–"
    assert (single["items"], single["clusters"], single["seeds"]) == ("110", "1", "–")
    assert not rows.isin(["nan", "None", "NaN"]).any(axis=None)


def test_effect_rows_keep_the_order(estimates: pd.DataFrame) -> None:
    rows = effect_rows(estimates)
    assert len(rows) == len(estimates)
    assert list(rows["group"]) == list(estimates["group"])
    assert set(rows["metric"]) == {"accuracy", "perplexity"}
    assert effect_rows(pd.DataFrame()).columns.tolist() == rows.columns.tolist()


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("a|b", "a\\|b"),
        ("<script>", "&lt;script&gt;"),
        ("two\nlines", "two lines"),
        (float("nan"), "–"),
    ],
)
def test_markdown_cells_cannot_break_the_table(value: object, cell: str) -> None:
    table = markdown_table(pd.DataFrame({"name": [value], "n": [1]}))
    assert table == f"| name | n |\n| --- | --- |\n| {cell} | 1 |\n"
