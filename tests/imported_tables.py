"""Tables of imported cells, as the store would hold them."""

import pandas as pd

from sweeper.aggregate import imported_levels

NO_DOCUMENTS = pd.DataFrame({"cell_key": [], "item_id": [], "metric": [], "value": []}).astype(
    {"cell_key": "str", "item_id": "str", "metric": "str", "value": "float64"}
)


class Imported:
    """Tables of imported cells, as the store would hold them."""

    def __init__(self) -> None:
        self.manifest: list[dict] = []
        self.aggregates: list[dict] = []
        self.documents: list[dict] = []
        self.cells: list[dict] = []

    def cell(self, task, revision="step1", model="m", size=0) -> str:
        key = f"{model} {revision} {task}"
        names = {"cell_key": key, "model": model, "revision": revision, "task": task}
        self.manifest.append(names | {"condition": "baseline"})
        self.cells.append({"cell_key": key, "num_items": size})
        return key

    def value(self, key, value, stderr=None, metric="acc", filter="none") -> None:
        self.aggregates.append(
            {
                "cell_key": key,
                "task": key.split()[2],
                "metric": metric,
                "filter": filter,
                "value": value,
                "stderr": stderr,
            }
        )

    def share(self, key, right, size) -> None:
        share = right / size
        self.value(key, share, (share * (1 - share) / (size - 1)) ** 0.5)

    def parts(self, values, revision="step1", model="m") -> None:
        """Shares of tasks: right ones and documents by name."""
        for name, (right, size) in values.items():
            self.share(self.cell(name, revision, model), right, size)

    def logged(self, key, values, metric="accuracy") -> None:
        for place, value in enumerate(values):
            row = {"cell_key": key, "item_id": f"i{place}", "metric": metric, "value": value}
            self.documents.append(row)

    def levels(self, groups=None, confidence=0.95) -> pd.DataFrame:
        manifest = pd.DataFrame(self.manifest)
        steps = {
            (row["model"], row["revision"]): int(row["revision"].removeprefix("step"))
            for row in self.manifest
            if row["revision"].startswith("step")
        }
        columns = ["cell_key", "task", "metric", "filter", "value", "stderr"]
        documents = pd.DataFrame(self.documents) if self.documents else NO_DOCUMENTS
        return imported_levels(
            manifest,
            pd.DataFrame(self.cells),
            pd.DataFrame(self.aggregates, columns=columns).astype({"stderr": "float64"}),
            documents,
            steps,
            groups or {},
            confidence=confidence,
        )
