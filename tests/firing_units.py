"""Units of a firing census and of its n-grams, made and computed without a driver."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from records_factory import cell, unit

from sweeper.records import CellKind, Unit
from sweeper.run.found import Found
from sweeper.run.rows import Rows, cell_row
from sweeper.score import corpus as corpora
from sweeper.score.tokens import windows
from sweeper.spec.corpus import FileCorpus
from sweeper.spec.firing import FiringSpec
from sweeper.store import Store, new_attempt_name


class Analysis:
    """A firing census of some texts: its units, and a store that takes what they find."""

    def __init__(self, model: Any, spec: FiringSpec, texts: dict[str, Path], store: Path) -> None:
        """Texts by name of the corpus; their order is that of ``spec.corpora``."""
        self.model, self.spec = model, spec
        self.store = Store(str(store), create=True)
        self._corpora = {name: FileCorpus(path=str(texts[name])) for name in spec.corpora}
        self.rows = {
            name: [
                row
                for row in windows(
                    model.tokenizer, corpora.text(one), spec.length, spec.length, spec.windows
                )
                if len(row) == spec.length
            ]
            for name, one in self._corpora.items()
        }

    def part(self, kind: CellKind, corpus: str, of: tuple[int, int], **facts: Any) -> Unit:
        """A part of one corpus."""
        key = f"{kind}-{corpus}-{of[0]}-{of[1]}"
        return replace(self._unit(kind, key, [corpus], **facts), windows=of)

    def whole(self, kind: CellKind, parts: Sequence[Unit], **facts: Any) -> Unit:
        """What puts parts together."""
        told = [
            {"key": one.cells[0].key, "corpus": one.cells[0].task, "windows": list(one.windows)}
            for one in parts
        ]
        key = f"{kind}-of-{len(parts)}"
        return self._unit(kind, key, self.spec.corpora, parts=told, **facts)

    def _unit(self, kind: CellKind, key: str, names: Sequence[str], **facts: Any) -> Unit:
        chosen = {name: self._corpora[name] for name in names}
        prints = {name: corpora.fingerprint(one) for name, one in chosen.items()}
        plain = {name: one.model_dump() for name, one in chosen.items()}
        return unit(
            key,
            (cell(key, kind=kind, task=",".join(names)),),
            checkpoint=self.model.checkpoint,
            task=self.spec.model_dump(),
            corpus=plain[names[0]],
            data_fingerprint=prints[names[0]],
            analysis={
                "spec": self.spec.model_dump(),
                "corpora": plain,
                "fingerprints": prints,
                "parts": [],
                **facts,
            },
        )

    def keep(self, unit: Unit, found: Found) -> str:
        """Commit what a unit has found; the key of its cell."""
        (cell,) = unit.cells
        rows = Rows(unit=unit, attempt=new_attempt_name(unit.id), run="run", worker="w0")
        rows.add(found.tables, cell_row(cell, found.num_items, found.num_tokens, 0.0))
        rows.commit(self.store.writer)
        self.store.refresh()
        return cell.key

    def table(self, name: str, key: str) -> pd.DataFrame:
        """The rows of a cell."""
        found = self.store.table(name, [key]).to_pandas()
        return found.drop(columns=["cell_key", "attempt"]).reset_index(drop=True)


def active_neurons(model: Any, rows: Sequence[Sequence[int]], threshold: float) -> Any:
    """Whether each neuron is active, by plain hooks on one window at a time: (layers, W, T, F)."""
    kept: list[list[Any]] = [[] for _ in model.sites]

    def hook_for(layer: int) -> Any:
        return lambda _m, _i, output: kept[layer].append(output.flatten(0, -2).numpy() > threshold)

    handles = [s.activation.register_forward_hook(hook_for(s.layer)) for s in model.sites]
    try:
        with torch.inference_mode():
            for row in rows:
                model.model(input_ids=torch.tensor([row]))
    finally:
        for handle in handles:
            handle.remove()
    return np.array(kept)
