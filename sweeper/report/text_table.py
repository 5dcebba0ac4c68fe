"""A table of text, and how it is written as Markdown and as LaTeX."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweeper.report import numbers

Row = dict[Any, Any]
"""A row of a frame: column -> value."""

NBSP = "\u00a0"
TEXT_COLUMNS = {
    *("model", "revision", "task", "group", "condition", "error", "text", "metric", "part"),
    *("contrast", "target", "control", "tasks", "matched to", "statistic", "outcome", "set"),
    *("cohort", "quantity", "corpus", "kind", "detects", "promoted", "suppressed"),
    *("phase", "role", "intervention", "firing neurons", "most frequent tokens"),
    *("operation", "lowest", "highest", "pair", "sentence", "other sentence", "matched"),
}
"""Columns that read from the left; others hold numbers."""
LONG_COLUMNS = {
    *("text", "detects", "promoted", "suppressed", "lowest", "highest"),
    *("sentence", "other sentence", "most frequent tokens"),
}
"""Columns whose text runs over several lines."""


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """Rows of text under a title."""

    name: str
    """Stem of its files."""
    title: str
    frame: pd.DataFrame
    """All columns strings."""
    note: str = ""
    """What a reader must know to read it."""


def text_table(
    name: str,
    title: str,
    frame: pd.DataFrame,
    row: Callable[[Row], dict[str, str]],
    note: str = "",
) -> list[TextTable]:
    """A table with one row of text per row of a frame; none for a frame without rows."""
    rows = [row(values) for values in frame.to_dict("records")]
    if not rows:
        return []
    return [TextTable(name=name, title=title, frame=pd.DataFrame(rows), note=note)]


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table; names from data cannot break or inject into it."""
    head = "| " + " | ".join(_markdown_cell(name) for name in frame.columns) + " |"
    rule = "|" + " --- |" * len(frame.columns)
    rows = [
        "| " + " | ".join(_markdown_cell(value) for value in row) + " |"
        for row in frame.itertuples(index=False)
    ]
    return "\n".join([head, rule, *rows]) + "\n"


def _markdown_cell(value: object) -> str:
    text = numbers.DASH if numbers.is_missing(value) else str(value)
    # Markdown passes HTML through, so angle brackets must not reach it.
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")
    return " ".join(text.split())


def markdown(table: TextTable) -> str:
    """A table with its title and note as a Markdown page."""
    note = f"\n{_markdown_cell(table.note)}\n" if table.note else ""
    return f"## {_markdown_cell(table.title)}\n{note}\n{markdown_table(table.frame)}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # A row that begins with a bracket would be an argument of the line end before it.
    "[": "{[}",
    "]": "{]}",
    numbers.MINUS: "$-$",
    numbers.DASH: "--",
    "×": r"$\times$",
    "±": r"$\pm$",
    "²": r"\textsuperscript{2}",
    "∞": r"$\infty$",
    "·": r"\textperiodcentered{}",
    "…": r"\ldots{}",
    NBSP: "~",
}


def latex(table: TextTable) -> str:
    """A table as LaTeX: a ``longtable`` with the rules of ``booktabs``.

    Letters beyond those that LaTeX knows by itself (tokens of other scripts) need LuaLaTeX or
    XeLaTeX and a font that has them.
    """
    columns = list(table.frame.columns)
    layout = "".join(_column(name) for name in columns)
    head = " & ".join(_latex_cell(name) for name in columns) + r" \\"
    rows = [
        " & ".join(_latex_cell(value) for value in row) + r" \\"
        for row in table.frame.itertuples(index=False)
    ]
    caption = " ".join(_latex_cell(text) for text in (f"{table.title}.", table.note) if text)
    lines = [
        r"% needs \usepackage{booktabs,longtable}",
        rf"\begin{{longtable}}{{@{{}}{layout}@{{}}}}",
        rf"\caption{{{caption}}}\label{{tab:{table.name.replace('_', '-')}}} \\",
        *(r"\toprule", head, r"\midrule", r"\endfirsthead"),
        *(r"\toprule", head, r"\midrule", r"\endhead"),
        *(r"\bottomrule", r"\endlastfoot"),
        *rows,
        r"\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


def _column(name: str) -> str:
    if name in LONG_COLUMNS:
        return r"p{0.25\linewidth}"
    return "l" if name in TEXT_COLUMNS else "r"


def _latex_cell(value: object) -> str:
    text = numbers.DASH if numbers.is_missing(value) else str(value)
    # Not split(): a no-break space stays.
    plain = "".join(" " if letter in "\n\t\r" or ord(letter) < 32 else letter for letter in text)
    return "".join(_LATEX.get(letter, letter) for letter in plain)
