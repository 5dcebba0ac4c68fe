"""From files to a store and a run, and what a second import does."""

from pathlib import Path

import pandas as pd
import pytest
from ingest_files import answers, new_file, old_file, samples_file, stderr_of

from sweeper.api import ImportedRun, open_run
from sweeper.errors import UserError
from sweeper.ingest import Request, import_results
from sweeper.store import RunFolder, Store, list_runs


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def load(store):
    def run(*paths, name="mine", **more):
        return import_results(Request(paths=paths, store=str(store), name=name, **more))

    return run


def metrics(accuracy: float, size: int) -> dict[str, float]:
    return {"acc,none": accuracy, "acc_stderr,none": stderr_of(accuracy, size)}


def steps(folder: Path, values: dict[int, float], size: int = 4, **more) -> Path:
    for step, value in values.items():
        arguments = f"pretrained=org/m,revision=step{step}"
        date = f"2024-01-01T00-00-{step:02}"
        new_file(folder, {"piqa": metrics(value, size)}, model_args=arguments, date=date, **more)
    return folder


def opened(store: Path, name: str = "mine") -> ImportedRun:
    run = open_run(name, str(store))
    assert isinstance(run, ImportedRun)
    return run


def test_what_the_store_holds(tmp_path, store, load):
    done = load(steps(tmp_path / "in", {1: 0.25, 2: 0.75}, sizes={"piqa": 4}))
    assert (done.files, done.new, done.counts.cells, done.counts.in_run) == (2, 2, 2, 2)
    run = opened(store)
    cells = run.table("cells").sort_values("revision")
    assert cells["model"].unique().tolist() == ["org/m"]
    assert cells["revision"].tolist() == ["step1", "step2"]
    assert cells["num_items"].tolist() == [4, 4]
    assert set(cells["status"]) == {"done"}
    assert set(cells["kind"]) == {"score"}
    aggregates = run.table("aggregates").merge(cells, on="cell_key")
    assert aggregates.sort_values("revision")["value"].tolist() == [0.25, 0.75]
    assert run.table("items").empty
    assert list(run.record.steps.values()) == [1, 2]
    assert list_runs(run.store) == ["mine"]
    answer = run.store.sql("select count(*) as n from aggregates where metric = 'acc'")
    assert answer["n"].tolist() == [2]


def test_a_second_import_adds_nothing(tmp_path, store, load):
    folder = steps(tmp_path / "in", {1: 0.25, 2: 0.75})
    load(folder)
    before = sorted(store.rglob("*.parquet"))
    again = load(folder)
    assert (again.new, again.counts.cells, again.counts.in_run) == (0, 2, 2)
    other = load(folder, name="other")
    assert (other.new, other.counts.in_run) == (0, 2)
    added = set(store.rglob("*.parquet")) - set(before)
    assert {path.name for path in added} == {"manifest.parquet"}
    pd.testing.assert_frame_equal(opened(store).step_levels(), opened(store, "other").step_levels())


def test_a_run_grows_by_later_imports(tmp_path, store, load):
    load(steps(tmp_path / "one", {1: 0.25}))
    done = load(steps(tmp_path / "two", {2: 0.75}))
    assert (done.new, done.counts.in_run) == (1, 2)
    run = opened(store)
    assert run.step_levels()["value"].tolist() == [0.25, 0.75]
    assert len(run.record.sources) == 2


def test_the_last_evaluation_counts(tmp_path, store, load):
    arguments = {"model_args": "pretrained=org/m,revision=step1"}
    for place, value in enumerate((0.25, 0.5, 0.75)):
        date = f"2024-01-0{3 - place}T00-00-00"
        new_file(tmp_path / "in", {"piqa": metrics(value, 4)}, date=date, **arguments)
    done = load(tmp_path / "in")
    assert (done.new, done.counts.repeated, done.counts.in_run) == (3, 2, 1)
    assert opened(store).step_levels()["value"].tolist() == [0.25]
    assert len(Store(str(store)).done_keys()) == 3


def test_documents_go_before_values_alone(tmp_path, store, load):
    arguments = {"model_args": "pretrained=org/m,revision=step1"}
    new_file(tmp_path / "in", {"piqa": metrics(0.75, 4)}, sizes={"piqa": 4}, **arguments)
    load(tmp_path / "in")
    samples_file(tmp_path / "in", "piqa", answers([1, 1, 0, 1]))
    assert load(tmp_path / "in").new == 1
    later = {"date": "2026-01-01T00-00-00"}
    new_file(tmp_path / "late", {"piqa": metrics(0.25, 4)}, **arguments, **later)
    load(tmp_path / "late")
    levels = opened(store).step_levels()
    assert levels["metric"].tolist() == ["accuracy", "margin"]
    assert levels["value"].tolist() == [0.75, 0.5]
    assert set(levels["source"]) == {"samples"}
    items = opened(store).table("items")
    assert len(items) == 4
    assert items["num_tokens"].isna().all()


def test_examples_in_the_prompt_make_another_task(tmp_path, store, load):
    for shots in (0, 5):
        date = f"2024-01-01T00-00-0{shots}"
        new_file(tmp_path, {"piqa": metrics(0.5, 4)}, shots={"piqa": shots}, date=date)
    load(tmp_path)
    assert opened(store).manifest()["task"].tolist() == ["piqa", "piqa (5-shot)"]


def test_groups_of_tasks(tmp_path, store, load):
    rows = {f"blimp_{name}": {"acc": 0.5} for name in "abc"} | {
        "x_1": {"acc": 1},
        "x_2": {"acc": 0},
    }
    old_file(tmp_path / "f.json", rows, model_args="pretrained=m")
    assert load(tmp_path).groups == {"blimp": 3}
    assert load(tmp_path, groups=("x=x_*",)).groups == {"blimp": 3, "x": 2}
    assert opened(store).record.groups["x"] == ("x_1", "x_2")
    with pytest.raises(UserError, match="--group: y=y_\\* fits none"):
        load(tmp_path, groups=("y=y_*",))
    with pytest.raises(UserError, match="is not NAME=PATTERN"):
        load(tmp_path, groups=("y",))


def grouped(folder: Path, tasks: str = "abcd", **more) -> Path:
    """Four tasks of a group inside another, as versions from 0.4 write it."""
    shares = {"a": (20, 100), "b": (60, 200), "c": (120, 300), "d": (360, 400)}
    for step in (1, 2):
        values = {name: (right + 10 * step) / size for name, (right, size) in shares.items()}
        sizes = {name: size for name, (_, size) in shares.items()}
        rows = {name: metrics(values[name], sizes[name]) for name in tasks}
        mean = sum(values[name] * sizes[name] for name in values) / 1000
        rows["mmlu"] = {"acc,none": mean, "acc_stderr,none": 0.01}
        new_file(
            folder,
            rows,
            model_args=f"pretrained=org/m,revision=step{step}",
            date=f"2024-01-01T00-00-0{step}",
            groups={"mmlu": ["stem", "c", "d"], "stem": ["a", "b"]},
            sizes={name: sizes[name] for name in tasks},
            **more,
        )
    return folder


def test_a_group_that_holds_another(tmp_path, store, load):
    load(grouped(tmp_path))
    run = opened(store)
    levels = run.step_levels().query("group == 'all'").set_index(["task", "step"])["value"]
    assert levels["mmlu"].tolist() == pytest.approx([0.6, 0.64])
    changes = run.step_changes().query("group == 'all'").set_index("task")
    assert changes.loc["mmlu", "change"] == pytest.approx(0.04)
    assert changes["num_pairs"].to_dict() == {"mmlu": 4, "stem": 2}


def test_a_task_of_a_group_that_was_not_imported(tmp_path, store, load, caplog):
    assert load(grouped(tmp_path, "abc")).groups == {"mmlu": 4, "stem": 2}
    run = opened(store)
    assert run.record.groups["mmlu"] == ("a", "b", "c", "d")
    levels = run.step_levels().query("task == 'mmlu' and group == 'all'")
    assert levels["value"].tolist() == pytest.approx([0.6, 0.64])
    assert set(levels["source"]) == {"aggregates"}
    assert "org/m step1 (3 of 4 parts)" in caplog.text
    assert "mmlu" not in set(run.step_changes()["task"])


def test_groups_with_examples_in_the_prompt(tmp_path, store, load):
    grouped(tmp_path, "abc", shots=dict.fromkeys("abc", 5) | {"mmlu": 5})
    load(tmp_path)
    assert opened(store).record.groups == {
        "mmlu (5-shot)": ("a (5-shot)", "b (5-shot)", "c (5-shot)", "d (5-shot)"),
        "stem (5-shot)": ("a (5-shot)", "b (5-shot)"),
    }


def test_a_pattern_takes_no_groups_for_tasks(tmp_path, store, load):
    rows = {"x_1": metrics(0.5, 4), "x_2": metrics(0.25, 4), "x_in": metrics(0.375, 4)}
    new_file(tmp_path, rows, groups={"x_in": ["x_1", "x_2"]})
    load(tmp_path, groups=("x=x_*",))
    assert opened(store).record.groups["x"] == ("x_1", "x_2")


def test_a_document_that_is_no_number_stops_the_import(tmp_path, load):
    new_file(tmp_path, {"piqa": metrics(0.5, 4)}, sizes={"piqa": 4})
    lines = answers([1, 0, 1, 0])
    lines[2]["acc"] = float("nan")
    path = samples_file(tmp_path, "piqa", lines)
    with pytest.raises(UserError, match="line 3: document 2: acc is nan") as stop:
        load(tmp_path)
    assert str(stop.value).startswith(f"{path}: ")
    assert load(tmp_path, skip_bad=True).new == 1


def test_bad_files_stop_everything_unless_they_are_left_out(tmp_path, store, load):
    folder = steps(tmp_path / "in", {1: 0.25})
    bad = folder / "results_bad.json"
    bad.write_text("{")
    with pytest.raises(UserError, match="nothing was written: 1 bad file") as stop:
        load(folder)
    assert str(stop.value).startswith(f"{bad}: it is not valid JSON")
    assert not store.exists()
    done = load(folder, skip_bad=True)
    assert done.new == 1
    assert len(done.problems) == 1


def test_nothing_to_import(tmp_path, load):
    with pytest.raises(UserError, match="holds no results"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"run: '\.\./x' is no valid name"):
        load(steps(tmp_path, {1: 0.25}), name="../x")
    with pytest.raises(UserError, match="--where: 'task' is not COLUMN=PATTERN"):
        load(tmp_path, where=("task",))


def test_the_run_of_a_job_stays_what_it_is(tmp_path, store, load):
    folder = RunFolder(Store(str(store), create=True), "mine")
    folder.write_job('{"name": "mine"}')
    with pytest.raises(UserError, match="--name: 'mine' is the run of a job"):
        load(steps(tmp_path / "in", {1: 0.25}))
    assert Store(str(store)).done_keys() == set()
    assert not folder.is_imported()


def test_a_damaged_record_is_one_line(tmp_path, store, load):
    load(steps(tmp_path / "in", {1: 0.25}))
    folder = RunFolder(Store(str(store)), "mine")
    folder.write_job('{"name": "mine", "kind": "import"}')
    with pytest.raises(UserError, match="record of the import 'mine' is damaged"):
        load(tmp_path / "in")
