from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.spec import load_job, validate_job

QUICKSTART = Path(__file__).resolve().parents[2] / "jobs" / "quickstart.yaml"
BLIMP = QUICKSTART.with_name("smollm2_blimp.yaml")

NAME = "a name of at most 100 letters, digits, _, - and single dots inside"
CONDITION = "condition.random_negative.neurons"
LAYERS = (
    "all, each, a list of different whole numbers of at least 0, {groups: N} or {cumulative: N} "
    "with N at least 1"
)
EXPLICIT = "condition.x={operation:zero,neurons:{kind:explicit,neurons:%s}}"
SET = "condition.x={operation:%s,neurons:{kind:explicit,neurons:{0:[1]}}}"
MATCHED = "condition.x={operation:negative_clamp,neurons:{kind:matched,match:top1_negative,%s}}"

MESSAGES = {
    "seeds=many": "seeds: 'many' is not allowed; allowed is a whole number of at least 1",
    "seeds=0": "seeds: 0 is not allowed; allowed is a whole number of at least 1",
    "seeds=1.5": "seeds: 1.5 is not allowed; allowed is a whole number of at least 1",
    "condition.top1_negative.neurons.fraction=0": (
        "condition.top1_negative.neurons.fraction: 0 is not allowed; "
        "allowed is a number above 0 and at most 1"
    ),
    "condition.top1_negative.neurons.fraction=1.5": (
        "condition.top1_negative.neurons.fraction: 1.5 is not allowed; "
        "allowed is a number above 0 and at most 1"
    ),
    "condition.top1_negative.neurons.layers=[0,0]": (
        f"condition.top1_negative.neurons.layers: [0, 0] is not allowed; allowed is {LAYERS}"
    ),
    "condition.top1_negative.neurons.layers=al": (
        f"condition.top1_negative.neurons.layers: 'al' is not allowed; allowed is {LAYERS}; "
        "did you mean all?"
    ),
    "condition.top1_negative.neurons.layers={groups:0}": (
        "condition.top1_negative.neurons.layers: {'groups': 0} is not allowed; "
        f"allowed is {LAYERS}"
    ),
    "condition.top1_negative.neurons.layers={group:2}": (
        "condition.top1_negative.neurons.layers: {'group': 2} is not allowed; "
        f"allowed is {LAYERS}"
    ),
    "condition.x={operation:zero,neurons:{kind:matched,match:top1_negative,by:moments,"
    "moments:[skw]}}": (
        "condition.x.neurons.moments: 'skw' is not allowed; allowed is a list of different ones "
        "of wd, md, mean, sd, skew, kurtosis, mean_abs, share_negative"
    ),
    MATCHED % "by:moments,statistic:md": (
        "condition.x.neurons: statistic is md, but by is moments, which does not read it"
    ),
    MATCHED % "by:moments,tolerance:0.1": (
        "condition.x.neurons: tolerance is 0.1, but by is moments, which does not read it"
    ),
    MATCHED % "by:perplexity,task:perplexity,moments:[skew]": (
        "condition.x.neurons: moments is ['skew'], but by is perplexity, which does not read it"
    ),
    SET % "remove_mlp": (
        "condition.x.neurons.kind: explicit is not allowed; remove_mlp takes whole layers: allowed "
        "is all"
    ),
    "suite.grammar.limt=20": (
        "suite.grammar.limt: unknown key (value 20); allowed: kind, source, columns, reduce, "
        "scores, prefix, keep_tokens, limit; did you mean suite.grammar.limit?"
    ),
    "suite.grammar.source.kind=gramar": (
        "suite.grammar.source.kind: 'gramar' is not allowed; "
        "allowed is one of hub, file, grammar; did you mean grammar?"
    ),
    "suite.gramar.limit=20": (
        "suite.gramar.limit: this job has no suite 'gramar'; allowed: perplexity, grammar; "
        "did you mean grammar?"
    ),
    "sedes=3": (
        "sedes: unknown key (value 3); allowed: name, store, model, corpus, census, profiles, "
        "drift, firing, routing, suite, condition, seeds, contrasts, statistics, cluster; did you "
        "mean seeds?"
    ),
    "~suite.grammar.kind": (
        "suite.grammar.kind: missing; allowed is one of perplexity, surprisal, minimal_pairs, "
        "lm_eval"
    ),
    "~suite.grammar.source": "suite.grammar.source: missing; allowed is a mapping",
    "~condition.random_negativ": (
        "~condition.random_negativ: no such key to drop; allowed: baseline, top1_negative, "
        "random_negative; did you mean random_negative?"
    ),
    "suite.grammar=3": "suite.grammar: 3 is not allowed; allowed is a mapping",
    "seeds.x=1": "seeds.x: seeds is 3, which has no keys below it",
    "model.smollm2-135m.revision=1000": (
        "model.smollm2-135m.revision: 1000 is not allowed; "
        "allowed is text that is not empty; quotes make it text"
    ),
    "model.smollm2-135m.dtype=fp32": (
        "model.smollm2-135m.dtype: 'fp32' is not allowed; "
        "allowed is one of auto, float32, bfloat16, float16; did you mean float32?"
    ),
    "cluster.workers=0": (
        "cluster.workers: 0 is not allowed; allowed is auto or a whole number of at least 1"
    ),
    "cluster.gpus_per_worker=1.5": (
        "cluster.gpus_per_worker: 1.5 is not allowed; "
        "allowed is auto or a number of at least 0, whole above 1"
    ),
    "cluster={executor:in_process,workers:2}": (
        "cluster: workers is 2; executor in_process allows only 1"
    ),
    "cluster={wait_seconds:60,address:auto,gpus_per_worker:1}": (
        "cluster: wait_seconds is 60; allowed where workers is a number"
    ),
    "cluster={wait_seconds:60,address:auto,workers:2}": (
        "cluster: wait_seconds is 60; allowed where gpus_per_worker is a number"
    ),
    "cluster={wait_seconds:60,workers:2,gpus_per_worker:0}": (
        "cluster: wait_seconds is 60; allowed on a running cluster of Ray"
    ),
    "cluster=[cpu]": (
        "cluster: no option 'cpu'; allowed: auto, gpu, in_process, local; did you mean gpu?"
    ),
    "name='../x'": f"name: '../x' is not allowed; allowed is {NAME}",
    "name=${nme}": "name: Interpolation key 'nme' not found",
    "name=${name}": "name: Recursive interpolation detected",
    "model=local": "model.local.path: missing; it must be given, as model.local.path=VALUE",
    "model=3": "override 'model=3': allowed: group=option or group=[option,option]",
    "seeds=1,2": "override 'seeds=1,2': several values; a list is written key=[a,b]",
    "model@x=gpt2": "override 'model@x=gpt2': '@' is not allowed in the key",
    "seeds": (
        "override 'seeds': broken syntax (missing EQUAL at '<EOF>'); allowed: key=value, "
        "key=[a,b], ~key; text with special characters in quotes: key='\"text\"'"
    ),
    "census.corpus=topcs": (
        "census.corpus: no corpus is named 'topcs'; allowed: topics, topics_heldout; "
        "did you mean topics?"
    ),
    "suite.perplexity.corpus=other": (
        "suite.perplexity.corpus: no corpus is named 'other'; allowed: topics, topics_heldout"
    ),
    "census=null": (
        "census: missing; condition.top1_negative.neurons chooses by the statistic wd, "
        "so census.corpus is needed"
    ),
    "profiles={statistc:md}": (
        "profiles.statistc: unknown key (value 'md'); allowed: statistic, neurons, windows, pairs; "
        "did you mean profiles.statistic?"
    ),
    "profiles={neurons:0}": (
        "profiles.neurons: 0 is not allowed; allowed is a whole number of at least 1"
    ),
    "condition=top1_negative": (
        "condition: exactly one baseline (operation null) is needed; found none"
    ),
    "condition.b={operation:null}": (
        "condition: exactly one baseline (operation null) is needed; found baseline and b"
    ),
    "condition.baseline.neurons={kind:random,fraction:0.1}": (
        "condition.baseline.neurons: given, but the baseline (operation null) allows none"
    ),
    "condition.x={operation:zero}": (
        "condition.x.neurons: missing; operation zero needs a set of neurons"
    ),
    f"{CONDITION}.fraction=0.1": (
        f"{CONDITION}: match and fraction are both given; exactly one of them is allowed"
    ),
    f"{CONDITION}.match=null": (
        f"{CONDITION}: neither match nor fraction is given; exactly one of them is needed"
    ),
    f"{CONDITION}.layers=[1]": (
        f"{CONDITION}: layers is given beside match; it is allowed only with fraction"
    ),
    f"{CONDITION}.match=top1": (
        f"{CONDITION}.match: 'top1' is not allowed; a condition of this job is needed that "
        "chooses its neurons itself; allowed: top1_negative"
    ),
    "condition.random_negative.operation=zero": (
        "condition.random_negative.operation: zero is not allowed; a control does what its "
        "match top1_negative does: negative_clamp"
    ),
    "condition.random_negative.value=1.5": (
        "condition.random_negative.value: 1.5 is not allowed; only operation set takes a value"
    ),
    SET % "set": "condition.x.value: missing; operation set needs the number that it puts in",
    "condition.baseline.value=0": (
        "condition.baseline.value: 0 is not allowed; only operation set takes a value"
    ),
    MATCHED % "by:moments,task:perplexity": (
        "condition.x.neurons.task: 'perplexity' is not allowed; a match by moments reads no text"
    ),
    MATCHED % "by:perplexity": (
        "condition.x.neurons.task: missing; a perplexity task of the suite is needed; "
        "allowed: perplexity"
    ),
    MATCHED % "by:perplexity,task:grammar": (
        "condition.x.neurons.task: 'grammar' is not allowed; a perplexity task of the suite is "
        "needed; allowed: perplexity"
    ),
    MATCHED % "by:wd": (
        "condition.x.neurons.by: 'wd' is not allowed; allowed is one of perplexity, moments"
    ),
    MATCHED % "by:moments,layers:[1]": (
        "condition.x.neurons.layers: unknown key (value [1]); allowed: kind, match, by, "
        "statistic, moments, task, tolerance"
    ),
    MATCHED.replace("top1_negative", "random_negative") % "by:moments": (
        "condition.x.neurons.match: 'random_negative' is not allowed; a condition of this job is "
        "needed that chooses its neurons itself; allowed: top1_negative; did you mean "
        "top1_negative?"
    ),
    MATCHED.replace("negative_clamp", "zero") % "by:moments": (
        "condition.x.operation: zero is not allowed; a control does what its match top1_negative "
        "does: negative_clamp"
    ),
    EXPLICIT % "{0:[1,1]}": (
        "condition.x.neurons.neurons.0: 1 is listed twice; every entry may stand there once"
    ),
    EXPLICIT % "{0:[-1]}": (
        "condition.x.neurons.neurons.0: -1 is not allowed; "
        "allowed is a list of different whole numbers of at least 0"
    ),
    EXPLICIT % "{-1:[1]}": (
        "condition.x.neurons.neurons: the key -1 is not allowed; "
        "allowed is a whole number of at least 0"
    ),
}


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_job(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


NUMBER = "a number at least 0 and at most 1000"
THRESHOLDS = "a number of at least 0 and at most 1000, or one for each activation function"
THRESHOLD_MESSAGES = {
    "firing.threshold=-1": f"firing.threshold: -1 is not allowed; allowed is {THRESHOLDS}",
    "firing.threshold=20000": f"firing.threshold: 20000 is not allowed; allowed is {THRESHOLDS}",
    "firing.threshold=half": f"firing.threshold: 'half' is not allowed; allowed is {THRESHOLDS}",
    "firing.threshold=[1]": f"firing.threshold: [1] is not allowed; allowed is {THRESHOLDS}",
    "firing.threshold={relu:-1,silu:0.1}": (
        f"firing.threshold.relu: -1 is not allowed; allowed is {NUMBER}"
    ),
    "firing.threshold={relu:20000,silu:x}": (
        f"firing.threshold.relu: 20000 is not allowed; allowed is {NUMBER} (and 1 more)"
    ),
    "routing={corpus:topics,threshold:1001}": (
        f"routing.threshold: 1001 is not allowed; allowed is {NUMBER}"
    ),
    "routing={corpus:topics,thresholds:[0.1,-1]}": (
        "routing.thresholds: -1 is not allowed; allowed is a list of different numbers of "
        "at least 0 and at most 1000"
    ),
}


@pytest.mark.parametrize("override", THRESHOLD_MESSAGES)
def test_a_wrong_threshold_is_one_line(override):
    job = QUICKSTART.with_name("dead_ngram_positional_smollm2.yaml")
    assert message(job, override) == THRESHOLD_MESSAGES[override]


@pytest.mark.parametrize("override", MESSAGES)
def test_a_wrong_override_names_key_value_and_what_is_allowed(override):
    assert message(QUICKSTART, override) == MESSAGES[override]


JOB = {
    "name": "j",
    "model": {"m": {"path": "org/m"}},
    "corpus": {"c": {"kind": "topics"}},
    "suite": {"p": {"kind": "perplexity", "corpus": "c"}},
}
NAMED = {"kind": "explicit", "neurons": {0: [1]}}


@pytest.mark.parametrize(
    ("conditions", "line"),
    [
        (
            {"x": {"operation": "mean", "neurons": NAMED}},
            "census: missing; condition.x.operation puts in the neurons' means, so census.corpus "
            "is needed",
        ),
        (
            {
                "x": {"operation": "zero", "neurons": NAMED},
                "y": {
                    "operation": "zero",
                    "neurons": {"kind": "matched", "match": "x", "by": "moments"},
                },
            },
            "census: missing; condition.y.neurons is matched by statistics, so census.corpus is "
            "needed",
        ),
        (
            {
                "x": {"operation": "set", "value": 1.0, "neurons": NAMED},
                "y": {
                    "operation": "set",
                    "value": 2.0,
                    "neurons": {"kind": "random", "match": "x"},
                },
            },
            "condition.y.value: 2.0 is not allowed; a control does what its match x does: 1.0",
        ),
    ],
)
def test_what_does_not_fit_together(conditions, line):
    with pytest.raises(UserError) as caught:
        validate_job({**JOB, "condition": {"base": {"operation": None}, **conditions}})
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("further", "line"),
    [
        (
            {"profiles": {}},
            "census: missing; profiles are of the census' neurons, so census.corpus is needed",
        ),
        (
            {"profiles": {"statistic": "md"}, "census": {"corpus": "c", "pairs": 0}},
            "census.pairs: 0 is not allowed; profiles.statistic needs the statistic md",
        ),
        (
            {"condition": {"profile": {"operation": None}}},
            "condition.profile: the name profile is taken; choose another",
        ),
    ],
)
def test_profiles_need_the_census(further, line):
    with pytest.raises(UserError) as caught:
        validate_job({**JOB, "condition": {"base": {"operation": None}}, **further})
    assert str(caught.value) == line


def by_label(label: str, **further) -> dict:
    return {"operation": "zero", "neurons": {"kind": "labelled", "label": label, **further}}


FIRING = {"corpora": ["c"]}


@pytest.mark.parametrize(
    ("label", "further", "line"),
    [
        (
            "dead",
            {},
            "firing: missing; condition.x.neurons chooses by the label dead, so firing.corpora is "
            "needed",
        ),
        (
            "trigram_detector",
            {"routing": {"corpus": "c"}},
            "firing: missing; condition.x.neurons chooses by the label trigram_detector, so "
            "firing.corpora is needed",
        ),
        (
            "bigram_detector",
            {"firing": {**FIRING, "ngrams": [1, 3]}},
            "firing.ngrams: [1, 3] lacks 2; condition.x.neurons chooses by the label "
            "bigram_detector",
        ),
        (
            "gateway",
            {"firing": FIRING},
            "routing: missing; condition.x.neurons chooses by the label gateway, so routing.corpus "
            "is needed",
        ),
        ("dead", {"firing": {**FIRING, "ngrams": []}}, None),
        ("token_detector", {"firing": {**FIRING, "ngrams": [1]}}, None),
        ("handler", {"routing": {"corpus": "c"}}, None),
    ],
)
def test_a_label_needs_the_analysis_that_gives_it(label, further, line):
    conditions = {"base": {"operation": None}, "x": by_label(label)}
    job = {**JOB, **further, "condition": conditions}
    if line is None:
        validate_job(job)
        return
    with pytest.raises(UserError) as caught:
        validate_job(job)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("further", "line"),
    [
        (
            {"firing": {"corpora": ["c", "d"]}},
            "firing.corpora: no corpus is named 'd'; allowed: c",
        ),
        (
            {"routing": {"corpus": "cc"}},
            "routing.corpus: no corpus is named 'cc'; allowed: c; did you mean c?",
        ),
        (
            {
                "firing": {"corpora": ["all"]},
                "corpus": {**JOB["corpus"], "all": {"kind": "topics"}},
            },
            "firing.corpora: 'all' is not allowed; it stands for all corpora together in the "
            "results; rename that corpus",
        ),
        (
            {"firing": {"corpora": []}},
            "firing.corpora: [] is not allowed; allowed is a list of different names of corpora",
        ),
        (
            {"firing": {**FIRING, "length": 2}},
            "firing.length: 2 is not allowed; allowed is a whole number of at least 8",
        ),
        (
            {"firing": {**FIRING, "ngrams": [4]}},
            "firing.ngrams: 4 is not allowed; allowed is a list of different ones of 1, 2 and 3; "
            "empty for no n-grams",
        ),
        (
            {"suite": {"ngrams": JOB["suite"]["p"]}},
            "suite.ngrams: the name ngrams is taken; choose another",
        ),
    ],
)
def test_what_the_analyses_read_must_be_there(further, line):
    with pytest.raises(UserError) as caught:
        validate_job({**JOB, "condition": {"base": {"operation": None}}, **further})
    assert str(caught.value) == line


@pytest.mark.parametrize("name", ["firing", "ngrams", "routing", "removal"])
def test_analyses_have_names_of_their_own(name):
    with pytest.raises(UserError) as caught:
        validate_job({**JOB, "condition": {name: {"operation": None}}})
    assert str(caught.value) == f"condition.{name}: the name {name} is taken; choose another"


def test_labelled_sets_have_controls_and_take_layers_but_no_whole_mlps():
    conditions = {
        "base": {"operation": None},
        "x": by_label("dead", layers={"groups": 2}),
        "drawn": {"operation": "zero", "neurons": {"kind": "random", "match": "x"}},
        "alike": {
            "operation": "zero",
            "neurons": {"kind": "matched", "match": "x", "by": "moments"},
        },
    }
    job = {**JOB, "census": {"corpus": "c"}, "firing": FIRING, "condition": conditions}
    contrast = {"kind": "difference", "target": "x", "control": "drawn", "metric": "nll"}
    found = validate_job({**job, "contrasts": {"against_drawn": contrast}})
    assert type(found).model_validate_json(found.model_dump_json()) == found
    conditions["x"] = {**by_label("dead"), "operation": "remove_mlp"}
    with pytest.raises(UserError, match=r"^condition\.x\.neurons\.kind: labelled is not allowed"):
        validate_job(job)
    conditions["x"] = by_label("deaf")
    with pytest.raises(UserError, match=r"'deaf' is not allowed; .*did you mean dead\?$"):
        validate_job(job)


def test_the_mapping_difficulty_needs_pairs_of_tokens():
    for neurons in (
        {"kind": "top", "fraction": 0.1, "statistic": "md"},
        {"kind": "matched", "match": "x", "by": "moments", "moments": ["skew", "md"]},
    ):
        conditions = {
            "base": {"operation": None},
            "x": {"operation": "zero", "neurons": NAMED},
            "y": {"operation": "zero", "neurons": neurons},
        }
        with pytest.raises(UserError) as caught:
            validate_job({**JOB, "census": {"corpus": "c", "pairs": 0}, "condition": conditions})
        assert str(caught.value) == (
            "census.pairs: 0 is not allowed; condition.y.neurons needs the statistic md"
        )


def test_a_random_set_may_control_a_matched_one():
    matched = {"kind": "matched", "match": "x", "by": "moments"}
    conditions = {
        "base": {"operation": None},
        "x": {"operation": "zero", "neurons": NAMED},
        "y": {"operation": "zero", "neurons": matched},
        "z": {"operation": "zero", "neurons": {"kind": "random", "match": "y"}},
    }
    job = validate_job({**JOB, "census": {"corpus": "c"}, "condition": conditions})
    assert type(job).model_validate_json(job.model_dump_json()) == job


def test_the_first_error_in_file_order_is_said_and_the_others_are_counted():
    found = message(QUICKSTART, "seeds=0", "cluster.workers=0", "suite.grammar.limit=0")
    assert found == (
        "suite.grammar.limit: 0 is not allowed; "
        "allowed is a whole number of at least 1 or null (and 2 more)"
    )


def test_an_unknown_option_names_the_nearest():
    assert message(QUICKSTART, "model=gtp2").endswith("smollm2-135m_random; did you mean gpt2?")


def test_a_missing_job_file_names_the_nearest():
    path = QUICKSTART.with_name("quickstar.yaml")
    assert message(path) == f"job file {path}: no such file; did you mean quickstart.yaml?"


FILES = {
    "a: 1\nb: [1\nc: 2\n": "{file}, line 3: no valid YAML: expected ',' or ']', but got ':'",
    "a: 1\na: 2\n": "{file}, line 2: no valid YAML: found duplicate key a",
    "- a\n": "{file}: holds a list; allowed is a mapping of keys",
    "1: a\n": "{file}: the key 1 is not allowed; allowed is text",
    "": f"name: missing; allowed is {NAME} (and 3 more)",
    "defaults: 3\n": "defaults: 3 is not allowed; allowed is a list",
    "defaults: [{model: 3}]\n": (
        "defaults: model: 3 is not allowed; allowed is an option or a list of options"
    ),
    "defaults: [{modle: gpt2}]\n": (
        "defaults: no group 'modle'; allowed: model, corpus, suite, condition, cluster; "
        "did you mean model?"
    ),
    "defaults: [job]\n": "defaults: 'job' is not allowed; a job file built on itself",
    "defaults: [jobb]\n": "defaults: no job file 'jobb' to build on; did you mean job?",
}


@pytest.mark.parametrize("text", FILES)
def test_a_broken_job_file_says_where(text, tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(text)
    assert message(file) == FILES[text].format(file=file)


def test_a_job_file_that_is_no_text_is_an_error(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    assert message(file).startswith(f"{file}: cannot be read: 'utf-8' codec")


def test_a_job_file_with_another_ending_is_an_error(tmp_path):
    file = tmp_path / "job.yml"
    file.touch()
    assert message(file) == f"job file {file}: the ending '.yml' is not allowed; use .yaml"


def test_a_broken_option_file_is_named(tmp_path):
    option = tmp_path / "conf" / "model" / "mine.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("mine: {path: x\n")
    file = tmp_path / "job.yaml"
    file.write_text("defaults: [{model: mine}]\n")
    assert message(file).startswith(f"{option}, line 2: no valid YAML")


def test_plain_data_is_checked_with_the_same_messages():
    with pytest.raises(UserError, match=r"^name: missing; .* \(and 3 more\)$"):
        validate_job({})


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["suite.blimp.source.kind=file"],
            "suite.blimp.source.path: missing; allowed is text that is not empty",
        ),
        (
            ["suite.blimp.source={kind:file,path:x}", "suite.blimp.source.split=test"],
            "suite.blimp.source.split: unknown key (value 'test'); allowed: kind, path",
        ),
    ],
)
def test_a_change_of_kind_asks_for_its_own_keys_and_rejects_foreign_ones(overrides, expected):
    assert message(BLIMP, *overrides) == expected
