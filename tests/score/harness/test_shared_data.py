"""Well-known tasks of the harness on public data, by a real trained model."""

import pandas as pd
import pytest
from harness_reference import BASELINE, by_harness, by_sweeper
from pyarrow import parquet

from sweeper.spec.task import LmEvalSpec

FILES = {
    "piqa": ("validation", "mc/piqa/validation.parquet"),
    "arc_challenge": ("test", "mc/arc_challenge/test.parquet"),
    "arc_easy": ("test", "mc/arc_easy/test.parquet"),
    "boolq": ("validation", "mc/boolq/validation.parquet"),
    "hellaswag": ("validation", "mc/hellaswag/validation.parquet"),
    "openbookqa": ("test", "mc/openbookqa/test.parquet"),
    "social_iqa": ("validation", "mc/social_iqa/validation.parquet"),
    "winogrande": ("validation", "mc/winogrande/validation.parquet"),
    "lambada_openai": ("test", "mc/lambada_openai/test.parquet"),
    "blimp": ("train", "blimp/blimp.parquet"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_item_is_as_the_harness_says(shared, stories, tmp_path, name):
    split, file = FILES[name]
    column = {"data_column": "UID"} if name == "blimp" else {}
    source, part = shared / "data" / file, tmp_path / "part.parquet"
    if name == "blimp":
        pd.read_parquet(source).groupby("UID").head(1).to_parquet(part)
    else:  # the harness prepares every row of a file, however few are asked for
        parquet.write_table(parquet.read_table(source).slice(0, 20), part)
    files = {split: str(part)}
    limit = 1 if name == "blimp" else 5
    spec = LmEvalSpec(task=name, data_files=files, limit=limit, **column)
    (tables,) = by_sweeper(stories, spec, [BASELINE])
    expected = by_harness(stories, spec, BASELINE)
    samples = {
        f"{task}/{sample['doc_id']}": sample
        for task, of_task in expected["samples"].items()
        for sample in of_task
    }
    items = tables["items"].set_index("item_id")
    assert set(items.index) == set(samples)
    assert len(samples) == (67 if name == "blimp" else 5)
    for item_id, sample in samples.items():
        item = items.loc[item_id]
        assert item["correct"] == bool(sample["acc"])
        answers = [answers[0][0] for answers in sample["resps"]]
        assert item["logprob"] == pytest.approx(max(answers), abs=2e-3) or not item["correct"]
        if len(answers) > 1:
            kept = sorted((item["logprob"], item["logprob_bad"]))
            assert kept[1] == pytest.approx(max(answers), abs=2e-3)
    scores = tables["aggregates"].query("metric == 'acc'").set_index("task")["value"]
    for task, value in scores.items():
        assert value == pytest.approx(expected["results"][task]["acc,none"])
    assert name in scores.index
