import pandas as pd
import pytest


class Study:
    """Tables of a run, built cell by cell."""

    def __init__(self):
        self.manifest_rows, self.item_rows, self.cell_rows = [], [], []

    def pairs(self, condition, correct, margins=None, *, clusters, groups=None, ids=None, **named):
        groups = groups or ["all"] * len(correct)
        ids = ids or [f"i{number}" for number in range(len(correct))]
        margins = margins or [1.0 if right else -1.0 for right in correct]
        rows = zip(correct, margins, clusters, groups, ids, strict=True)
        items = [
            {"correct": right, "margin": margin, "cluster": c, "group": g, "item_id": i}
            for right, margin, c, g, i in rows
        ]
        return self._cell(condition, items, "minimal_pairs", **named)

    def windows(self, condition, logprobs, tokens, **named):
        rows = enumerate(zip(logprobs, tokens, strict=True))
        items = [
            {"logprob": x, "num_tokens": t, "cluster": f"w{n}", "group": "all", "item_id": f"w{n}"}
            for n, (x, t) in rows
        ]
        return self._cell(condition, items, "perplexity", **named)

    def words(self, condition, logprobs, tokens, *, groups, clusters, **named):
        """Words of windows: nats and tokens of each part of speech in each window."""
        rows = enumerate(zip(logprobs, tokens, groups, clusters, strict=True))
        items = [
            {"logprob": x, "num_tokens": t, "cluster": c, "group": g, "item_id": f"i{n}"}
            for n, (x, t, g, c) in rows
        ]
        return self._cell(condition, items, "surprisal", **named)

    def _cell(
        self,
        condition,
        items,
        task_kind,
        *,
        seed=None,
        model="m",
        revision="main",
        task="t",
        operation="zero",
        control_of=None,
        num_neurons=0,
        noise=None,
        key=None,
        family=None,
        layers=(None, None),
    ):
        baseline = condition == "baseline"
        key = key or "/".join(map(str, (model, revision, task, condition, seed)))
        self.manifest_rows.append(
            {
                "cell_key": key,
                "kind": "score",
                "model": model,
                "revision": revision,
                "condition": condition,
                "seed": seed,
                "operation": None if baseline else operation,
                "num_neurons": num_neurons,
                "control_of": control_of,
                "family": family or condition,
                "first_layer": layers[0],
                "last_layer": layers[1],
                "is_baseline": baseline,
                "task": task,
                "task_kind": task_kind,
            }
        )
        if key not in {row["cell_key"] for row in self.cell_rows}:
            self.cell_rows.append({"cell_key": key, "status": "done", "noise": noise})
            self.item_rows += [{"cell_key": key, **item} for item in items]
        return key

    @property
    def manifest(self):
        layers = dict.fromkeys(("seed", "first_layer", "last_layer"), "Int32")
        return pd.DataFrame(self.manifest_rows).astype(layers)

    @property
    def items(self):
        columns = ["cell_key", "item_id", "group", "cluster", "logprob", "num_tokens"]
        return pd.DataFrame(self.item_rows, columns=[*columns, "correct", "margin"])

    @property
    def cells(self):
        return pd.DataFrame(self.cell_rows, columns=["cell_key", "status", "noise"])


@pytest.fixture
def study():
    return Study()
