import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from sweeper.errors import UserError
from sweeper.spec import (
    CumulativeLayers,
    ExplicitSet,
    FileCorpus,
    FilePairs,
    HubCorpus,
    HubPairs,
    JobSpec,
    LabelledSet,
    RandomSet,
    load_job,
    model_option,
)

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "jobs" / "quickstart.yaml"
BLIMP = ROOT / "jobs" / "smollm2_blimp.yaml"
OPTIONS = sorted(ROOT.glob("conf/*/*.yaml"))
JOBS = sorted(path for path in ROOT.glob("jobs/*.yaml") if not path.stem.startswith("train_"))
LOCAL = ["model=local", "model.local.path=folder"]
NO_HUB = ["quickstart", "dead_ngram_positional_smollm2", "binary_routing_smollm2"]
MANDATORY = {
    "model/local": ["model.local.path=folder"],
    "suite/tse": ["suite.tse.source.path=tse.parquet"],
    "suite/perplexity": ["suite.perplexity.corpus=topics_heldout"],
    "suite/surprisal": ["suite.surprisal.corpus=topics_heldout"],
}


def job(*overrides: str, path: Path = QUICKSTART) -> JobSpec:
    return load_job(path, overrides)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_shipped_jobs_load_and_survive_json(path):
    needs_pairs = "suite.tse.source.path" in path.read_text()
    spec = load_job(path, MANDATORY["suite/tse"] if needs_pairs else [])
    assert spec.name == path.stem
    assert spec.baseline == "baseline"
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("name", NO_HUB)
def test_jobs_without_the_hub_take_a_local_model(name):
    spec = job(*LOCAL, path=QUICKSTART.with_name(f"{name}.yaml"))
    assert list(spec.model) == ["local"]
    assert {corpus.kind for corpus in spec.corpus.values()} == {"topics"}
    assert spec.suite["grammar"].source.kind == "grammar"


@pytest.mark.parametrize("name", ["dead_ngram_positional", "binary_routing"])
def test_the_studies_on_labels_control_each_of_them(name):
    for path in (QUICKSTART.with_name(f"{name}{end}.yaml") for end in ("", "_smollm2")):
        spec = load_job(path)
        labelled = {
            name
            for name, condition in spec.condition.items()
            if isinstance(condition.neurons, LabelledSet)
        }
        controlled = {
            condition.neurons.match
            for condition in spec.condition.values()
            if isinstance(condition.neurons, RandomSet)
        }
        assert labelled == controlled != set()
        assert spec.seeds == 10


def test_the_quickstart_measures_text_that_its_census_has_not_seen():
    spec = job()
    assert spec.corpus["topics"].limit == spec.corpus["topics_heldout"].skip
    assert list(spec.condition) == ["baseline", "top1_negative", "random_negative"]
    assert spec.suite["grammar"].limit == 10


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_option_composes_and_validates(file):
    group, option = file.parent.name, file.stem
    content = yaml.safe_load(file.read_text())
    choice = [f"+{group}={option}", *MANDATORY.get(f"{group}/{option}", [])]
    kind = content[option].get("neurons", {}).get("kind") if group == "condition" else None
    if group == "condition":
        choice += ["firing={corpora:[topics]}", "routing={corpus:topics}"]
    if kind in ("random", "matched"):
        choice.insert(0, f"+condition={content[option]['neurons']['match']}")
    spec = job(*choice)
    assert file.read_text().startswith("# ")
    if group != "cluster":
        assert list(content) == [option] or option == "nongrammatical"  # which names eight tasks
        assert content.keys() <= getattr(spec, group).keys()


def test_chosen_options_replace_or_join_those_of_the_file():
    assert list(job("suite=grammar").suite) == ["grammar"]
    assert list(job("model=[gpt2,opt-125m]").model) == ["gpt2", "opt-125m"]
    assert list(job("+suite=blimp", "+suite=blimp").suite) == ["perplexity", "grammar", "blimp"]
    assert list(job("condition=[baseline,top1_zero]").condition) == ["baseline", "top1_zero"]
    assert job("cluster=in_process").cluster.executor == "in_process"


def test_the_file_speaks_only_of_options_that_are_left():
    assert job("suite=[blimp,grammar]").suite["grammar"].limit == 10
    spec = job("suite=blimp", "+suite=perplexity", "suite.perplexity.corpus=topics")
    assert spec.suite["perplexity"].limit == 8


def test_values_are_set_added_merged_and_dropped():
    spec = job(
        "seeds=10",
        "store=/a b/c",
        "name=run-1.2",
        "statistics.confidence=0.9",
        "census={windows:4}",
        "+suite.perplexity.limit=2",
        "~suite.grammar.limit",
        "model.mine={path:'/m',dtype:float32}",
        "model.mine.attention=eager",
        "~model.smollm2-135m",
    )
    assert (spec.seeds, spec.store, spec.name) == (10, "/a b/c", "run-1.2")
    assert spec.statistics.confidence == 0.9
    assert (spec.census.windows, spec.census.length) == (4, 512)
    assert spec.suite["perplexity"].limit == 2
    assert spec.suite["grammar"].limit is None
    assert list(spec.model) == ["mine"]
    assert spec.model["mine"].attention == "eager"


def test_explicit_neurons_keep_their_layer_numbers_through_json():
    spec = job("condition.x={operation:zero,neurons:{kind:explicit,neurons:{0:[2,1],11:[4]}}}")
    neurons = JobSpec.model_validate_json(spec.model_dump_json()).condition["x"].neurons
    assert neurons == ExplicitSet(kind="explicit", neurons={0: [2, 1], 11: [4]})


def test_interpolations_and_home_folders_are_resolved(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    spec = job("store='~/${name}'", "model=local", "model.local.path='~/m'")
    assert spec.store == "/home/someone/quickstart"
    assert spec.model["local"].path == "/home/someone/m"


def test_local_files_take_the_place_of_hub_datasets():
    spec = job(
        "suite.blimp.source.path=/d/blimp.parquet",
        "suite.blimp.source.kind=file",
        "suite.blimp.limit=20",
        "corpus.wikitext2_test.kind=file",
        "corpus.wikitext2_test.path=/d/wiki.test.raw",
        path=BLIMP,
    )
    assert spec.suite["blimp"].source == FilePairs(path="/d/blimp.parquet")
    assert spec.suite["blimp"].limit == 20
    assert spec.corpus["wikitext2_test"] == FileCorpus(path="/d/wiki.test.raw")
    assert isinstance(spec.corpus["wikitext2_train"], HubCorpus)


def test_a_change_of_kind_keeps_what_both_kinds_share():
    corpus = job("corpus.wikitext2_train={kind:file,path:x,limit:5}", path=BLIMP).corpus[
        "wikitext2_train"
    ]
    assert corpus == FileCorpus(path="x", limit=5, join=" ")
    spec = job("condition=[baseline,top1_zero]", "condition.top1_zero.neurons.kind=random")
    assert spec.condition["top1_zero"].neurons == RandomSet(kind="random", fraction=0.01)
    same = job("suite.blimp.source.kind=hub", path=BLIMP).suite["blimp"].source
    assert same == HubPairs(path="nyu-mll/blimp", configs="all")


def test_another_way_to_cut_layers_takes_the_place_of_the_option(tmp_path):
    layers = "condition.top1_negative_groups.neurons.layers={cumulative:5}"
    spec = job("+condition=top1_negative_groups", layers)
    assert spec.condition["top1_negative_groups"].neurons.layers == CumulativeLayers(cumulative=5)
    spec = job("+condition=top1_negative_groups", layers.replace("{cumulative:5}", "each"))
    assert spec.condition["top1_negative_groups"].neurons.layers == "each"


def test_a_model_option_can_be_read_without_a_job():
    assert model_option("gpt2")["gpt2"].path == "openai-community/gpt2"
    assert model_option("org/name") is None
    assert model_option("../corpus/topics") is None
    with pytest.raises(UserError, match=r"^local\.path: missing"):
        model_option("local")


OWN_JOB = """
defaults:
  - model: [mine, gpt2]
  - suite: [blimp]
  - condition: baseline
name: own
suite: {blimp: {source: {kind: file, path: pairs.csv}}}
"""


@pytest.fixture
def own(tmp_path) -> Path:
    folder = tmp_path / "it's a=b, my folder" / "jobs"
    for conf, path in ((folder.parent / "conf", "above"), (folder / "conf", "beside")):
        (conf / "model").mkdir(parents=True)
        (conf / "model" / "mine.yaml").write_text(f"mine: {{path: {path}}}\n")
    (folder.parent / "conf" / "model" / "gpt2.yaml").write_text("gpt2: {path: my-gpt2}\n")
    (folder / "own.yaml").write_text(OWN_JOB)
    return folder / "own.yaml"


def test_a_job_elsewhere_uses_its_own_options_first(own):
    spec = load_job(own)
    assert {name: model.path for name, model in spec.model.items()} == {
        "mine": "beside",
        "gpt2": "my-gpt2",
    }


def test_a_change_of_kind_in_the_job_file_drops_keys_too(own):
    assert load_job(own).suite["blimp"].source == FilePairs(path="pairs.csv")


def test_a_job_may_build_on_another(own):
    child = own.with_name("child.yaml")
    child.write_text("defaults: [own, _self_]\nname: child\n")
    spec = load_job(child, ["model=mine"])
    assert (spec.name, list(spec.model)) == ("child", ["mine"])
    assert spec.suite["blimp"].source == FilePairs(path="pairs.csv")


def test_the_working_folder_does_not_matter(tmp_path, monkeypatch):
    relative = os.path.relpath(QUICKSTART, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_job(relative) == load_job(QUICKSTART)


def test_hydra_state_of_the_calling_program_is_left_alone(tmp_path):
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        job()
        assert GlobalHydra.instance().hydra is outer
    assert not GlobalHydra.instance().is_initialized()


def test_threads_may_load_jobs_at_once():
    with ThreadPoolExecutor(4) as pool:
        specs = list(pool.map(lambda seeds: job(f"seeds={seeds}"), range(1, 9)))
    assert [spec.seeds for spec in specs] == list(range(1, 9))


def test_the_room_starts_without_heavy_libraries():
    code = (
        "import sys, sweeper.spec; "
        "heavy = {'torch', 'ray', 'transformers', 'hydra'}; "
        "sys.exit(' '.join(heavy & sys.modules.keys()) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
