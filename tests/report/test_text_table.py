import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sweeper.report.all_tables import all_tables
from sweeper.report.data import ReportData
from sweeper.report.study_tables import contrast_tables, match_tables, verdicts
from sweeper.report.text_table import TextTable, latex, markdown
from sweeper.report.write import write_report

HOSTILE = r"50 % of a_b & c # {d} ~ ^ $e$ \f [g] | <h> − × ∞ … · – ±"


def body_of(text: str) -> str:
    """Without the comment on the first line."""
    first, _, rest = text.partition("\n")
    assert first.startswith("% needs")
    return rest


def check_latex(text: str) -> None:
    """Special characters are escaped, braces and formulas closed, rows as long as the head."""
    body = body_of(text)
    assert not set(body) & set("−×∞…·–±")
    plain = re.sub(r"\\[{}$]", "", body)
    assert not re.search(r"(?<!\\)[%_#^]", plain)
    depth = 0
    for letter in plain:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    assert all(line.count("$") % 2 == 0 for line in plain.splitlines())
    assert plain.count(r"\begin{longtable}") == plain.count(r"\end{longtable}") == 1
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and "caption" not in line]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert not any(row.startswith("[") for row in rows)


def test_latex_of_hostile_text() -> None:
    frame = pd.DataFrame({"condition": [HOSTILE, "[x]"], "n %": ["1", float("nan")]})
    text = latex(TextTable(name="a_b", title=f"Title {HOSTILE}", frame=frame, note="100 % sure."))
    check_latex(text)
    assert r"50 \% of a\_b \& c \# \{d\} \textasciitilde{} \textasciicircum{} \$e\$" in text
    assert r"\textbackslash{}f {[}g{]} \textbar{} \textless{}h\textgreater{} $-$ $\times$" in text
    assert r"\label{tab:a-b}" in text
    assert "{[}x{]} & -- \\\\" in text
    assert r"\toprule" in text
    assert r"\bottomrule" in text


def test_all_tables_as_latex_and_markdown(study: ReportData, data: ReportData) -> None:
    tables = [*all_tables(study), *all_tables(data)]
    assert {table.name for table in tables} == {
        *("effects", "effects_by_group", "effects_by_layers", "levels", "contrasts"),
        *("perplexity_by_share", "matches", "match_search", "balance", "sign_shares"),
        *("separated_tokens", "examples", "noise", "changes"),
    }
    for table in tables:
        check_latex(latex(table))
        lines = markdown(table).splitlines()
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")}
        assert widths == {len(table.frame.columns) + 1}
        cells = table.frame.to_numpy().ravel().tolist()
        assert all(isinstance(value, str) for value in cells)
        assert not {"nan", "None", "NaN", "<NA>"} & set(cells)


def test_tables_are_written_beside_the_figures(study: ReportData, tmp_path: Path) -> None:
    nothing = pd.DataFrame()
    small = replace(
        study,
        estimates=study.estimates.head(3),
        levels=nothing,
        neurons=nothing,
        neuron_pairs=nothing,
        neuron_tokens=nothing,
    )
    paths = write_report(tmp_path, small).tables
    assert all(path.is_file() for path in paths)
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert {"contrasts.md", "contrasts.tex", "examples.tex"} <= names


def test_no_tables_of_nothing(empty: ReportData) -> None:
    assert all_tables(empty) == []


def test_contrast_table_says_what_was_tested(study: ReportData) -> None:
    (table,) = contrast_tables(study)
    row = table.frame.set_index("part").loc["interaction"]
    assert row["estimate"] == "−9.00 pp"
    assert row["interval"] == "[−11.00, −7.00]"
    assert row["p random"] == "0.091 (floor 0.091)"
    assert row["p directed"] == "–"
    side = table.frame.set_index("part").loc["target − control on other"]
    assert (side["p directed"], side["p Holm"], side["p random"]) == ("0.0002", "0.0004", "–")


@pytest.mark.parametrize(
    ("grammar", "other", "verdict"),
    [
        (0.01, 0.04, "a double dissociation at 0.05"),
        (0.01, 0.06, "no double dissociation at 0.05"),
        (float("nan"), 0.01, "no double dissociation at 0.05"),
    ],
)
def test_a_dissociation_is_double_where_both_claims_hold(
    study: ReportData, grammar: float, other: float, verdict: str
) -> None:
    frame = study.contrasts.copy()
    frame.loc[frame["part"] == "target_minus_control_on_grammar", "p_holm"] = grammar
    frame.loc[frame["part"] == "target_minus_control_on_other", "p_holm"] = other
    (text,) = verdicts(replace(study, contrasts=frame))
    assert verdict in text
    assert "top1 worse on grammar, matched_perplexity worse on the other tasks" in text


def test_a_match_states_what_was_reached(study: ReportData) -> None:
    chosen, tried = match_tables(study)
    row = chosen.frame.iloc[0]
    assert (row["matched"], row["share"], row["neurons"]) == ("yes", "35 %", "16,128")
    assert row["difference"] == "−0.0030 [−0.0130, 0.0070]"
    assert len(tried.frame) == 4
    failed = study.matches.assign(reached=False, outcome="out of reach")
    chosen, _ = match_tables(replace(study, matches=failed))
    assert chosen.frame["matched"].iloc[0] == "no: out of reach"
