"""The example browser of the page: single pairs, their tokens coloured by the clamp's effect."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd

from sweeper.report import numbers
from sweeper.report.collect_examples import ARM, EXAMPLE_COLUMNS, TOKEN_COLUMNS
from sweeper.report.data import ReportData, checkpoint_name, complete

STEPS = (0.1, 0.5, 2.0)
"""Changes of surprisal in nats from which on a token is coloured, stronger with each."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A piece of a sentence."""

    text: str
    style: str
    """Class of its colour: "" for none, ``up1`` to ``up3`` where the clamp makes it more
    surprising, ``down1`` to ``down3`` where less."""
    hint: str
    """Its surprisal, without and with the clamp."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A minimal pair under a clamp."""

    name: str
    group: str
    sentences: tuple[tuple[Span, ...], ...]
    """The acceptable sentence and the other one; none where the store has no texts."""
    before: str
    after: str
    change: str


@dataclass(frozen=True, kw_only=True)
class ExampleGroup:
    """The pairs that one condition changes most, of one checkpoint and task."""

    title: str
    examples: list[Example]


def script() -> tuple[str, str]:
    """The page's one script, and its hash for the page's content security policy."""
    text = files("sweeper.report").joinpath("examples.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).digest()
    return text, f"sha256-{base64.b64encode(digest).decode()}"


def example_groups(data: ReportData) -> list[ExampleGroup]:
    """What the browser shows, in the order of the frames."""
    examples = complete(data.examples, EXAMPLE_COLUMNS)
    tokens = complete(data.example_tokens, TOKEN_COLUMNS)
    of_pair = {
        tuple(map(str, names)): rows for names, rows in tokens.groupby([*ARM, "item"], sort=False)
    }
    return [
        ExampleGroup(
            title=f"{task}, {condition} — {checkpoint_name(str(model), str(revision))}",
            examples=[
                _example(row, of_pair.get(tuple(str(row[name]) for name in (*ARM, "item"))))
                for row in rows.to_dict("records")
            ],
        )
        for (model, revision, task, condition), rows in examples.groupby(ARM, sort=False)
    ]


def _example(row: dict[Any, Any], tokens: pd.DataFrame | None) -> Example:
    texts = [row[name] for name in ("text", "text_bad") if not numbers.is_missing(row[name])]
    sentences = [
        (Span(text=str(text), style="", hint=""),)
        if tokens is None
        else tuple(_spans(str(text), tokens[tokens["text"] == member]))
        for member, text in enumerate(texts)
    ]
    return Example(
        name=str(row["item_id"]),
        group=str(row["group"]),
        sentences=tuple(sentences),
        before=numbers.fixed(row["baseline_margin"], 2, signed=True),
        after=numbers.fixed(row["margin"], 2, signed=True),
        change=numbers.fixed(row["change"], 2, signed=True),
    )


def _spans(text: str, tokens: pd.DataFrame) -> Iterator[Span]:
    """Cut a sentence into its tokens; what no token covers is a piece without colour."""
    reached = 0
    placed = tokens.dropna(subset=["char_begin", "char_end"]).sort_values("position")
    for row in placed.to_dict("records"):
        # Tokens of one character's bytes share it: the first one stands for all.
        begin, end = max(int(row["char_begin"]), reached), int(row["char_end"])
        if end <= begin:
            continue
        if begin > reached:
            yield Span(text=text[reached:begin], style="", hint="")
        before, after = float(row["baseline_surprisal"]), float(row["surprisal"])
        yield Span(text=text[begin:end], style=_style(after - before), hint=_hint(before, after))
        reached = end
    if reached < len(text):
        yield Span(text=text[reached:], style="", hint="")


def _style(change: float) -> str:
    strength = sum(abs(change) >= step for step in STEPS)
    return f"{'up' if change > 0 else 'down'}{strength}" if strength else ""


def _hint(before: float, after: float) -> str:
    change = numbers.fixed(after - before, 2, signed=True)
    return f"surprisal {before:.2f} → {after:.2f} nats ({change})"
