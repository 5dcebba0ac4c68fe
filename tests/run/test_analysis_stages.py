"""Firing, n-grams, routing and removal: their stages, and the conditions that wait for labels."""

import io
from collections import Counter
from itertools import product

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter
from rich.console import Console

import sweeper
from sweeper import commands
from sweeper.errors import UserError
from sweeper.plan.analysis import Part
from sweeper.records import Cell, content_hash
from sweeper.run import worker
from sweeper.run.build import preparing_unit
from sweeper.run.expected import done_work, expected_cells, expected_work
from sweeper.run.preparation import Preparation
from sweeper.run.progress import describe
from sweeper.run.rows import arrow
from sweeper.run.stages import Known, known_of
from sweeper.run.sweep import Sweep, prepare
from sweeper.score import corpus as corpora
from sweeper.score.tasks import parse_corpus
from sweeper.spec.firing import FiringSpec
from sweeper.spec.job import JobSpec
from sweeper.spec.routing import RoutingSpec
from sweeper.store import Store, new_attempt_name
from sweeper.store.schemas import TABLES

OTHER = """The cat and the dog sat in the sun. A bird sang to them, and they were happy all day. """

FIRING = {
    "corpora": ["text", "other"],
    "length": 32,
    "windows": 6,
    "threshold": 1.5,
    "ngrams": [1],
    "tokens": 3,
    "parts": 2,
}
ROUTING = {
    "corpus": "text",
    "length": 32,
    "windows": 16,
    "thresholds": [0.05],
    "fit_tokens": 320,
    "splits": 5,
    "resamples": 20,
    "predicted_tokens": 0,
    "removal_windows": 3,
}


def zero(label: str, **further) -> dict:
    return {
        "operation": "zero",
        "neurons": {"kind": "labelled", "label": label, **further},
        "allow_unchanged": True,
    }


def control(name: str) -> dict:
    neurons = {"kind": "random", "match": name}
    return {"operation": "zero", "neurons": neurons, "allow_unchanged": True}


BASE = {"operation": None}
CONDITIONS = {
    "baseline": BASE,
    "dead": zero("dead"),
    "dead_control": control("dead"),
    "detectors": zero("token_detector"),
    "detectors_control": control("detectors"),
    "consensus": zero("consensus", layers=[1]),
    "consensus_control": control("consensus"),
}


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def analysis_job(story_job, tmp_path):
    """A sweep with all analyses and conditions on what they find, over two texts."""
    (tmp_path / "other.txt").write_text(OTHER * 40)

    def build(**changes) -> JobSpec:
        plain = story_job(suite={"grammar": {"limit": 1}}).model_dump()
        other = {"kind": "file", "path": str(tmp_path / "other.txt")}
        whole = {
            **plain,
            "corpus": {**plain["corpus"], "other": other},
            "census": None,
            "firing": FIRING,
            "routing": ROUTING,
            "condition": CONDITIONS,
            "seeds": 2,
        }
        return JobSpec.model_validate({**whole, **changes})

    return build


class ByHand:
    """A store that is filled by hand, and what is known by it."""

    def __init__(self, job: JobSpec) -> None:
        self.sweep: Sweep = prepare(job)
        self.store = Store(job.store, create=True)
        (self.checkpoint,) = self.sweep.checkpoints

    def known(self) -> Known:
        return known_of(self.sweep, self.store, self.checkpoint)

    def ready(self, kind: str) -> list[Preparation]:
        return [item for item in self.known().ready if item.cell.kind == kind]

    def commit(self, cell: Cell, **tables: pd.DataFrame) -> None:
        rows = {
            name: arrow(frame.assign(cell_key=cell.key), TABLES[name])
            for name, frame in tables.items()
        }
        attempt = new_attempt_name("by-hand")
        self.store.writer.commit(attempt, "by-hand", "run", rows, {cell.key: "done"})
        self.store.refresh()

    def names(self) -> Counter:
        return Counter(condition.name for condition in self.known().conditions)


def firing_rows(dead: set[tuple[int, int]]) -> pd.DataFrame:
    """Two layers of three neurons; in the text alone, neuron 0 of layer 0 is not active either."""
    rows = []
    for corpus, layer, neuron in product(("text", "other", "all"), range(2), range(3)):
        silent = (layer, neuron) in dead or (corpus == "text" and layer == neuron == 0)
        rows.append(
            {
                "corpus": corpus,
                "layer": layer,
                "neuron": neuron,
                "active": 0 if silent else 5,
                "num_tokens": 192,
                "num_windows": 6,
                "positional": False,
            }
        )
    return pd.DataFrame(rows)


def ngram_rows(*detectors: tuple[int, int]) -> pd.DataFrame:
    places = [*detectors, (0, 2)]
    return pd.DataFrame(
        {
            "layer": [layer for layer, _ in places],
            "neuron": [neuron for _, neuron in places],
            "n": 1,
            "activations": 9,
            "to_cover": 3,
            "detector": [place in detectors for place in places],
            "num_covered": 1,
        }
    )


def routing_rows(consensus: dict[int, list[int]]) -> pd.DataFrame:
    places = [(layer, neuron) for layer, chosen in consensus.items() for neuron in chosen]
    rates = dict.fromkeys(("rate", "rate_linear", "rate_barely", "rate_highly"), 0.5)
    return pd.DataFrame(
        {
            "layer": [layer for layer, _ in places],
            "neuron": [neuron for _, neuron in places],
            "role": "consensus",
            "place": range(len(places)),
            **rates,
        }
    )


def test_each_stage_makes_the_next_one_known(analysis_job):
    hand = ByHand(analysis_job())
    known = hand.known()
    assert Counter(item.cell.kind for item in known.ready) == {"firing_part": 4, "routing": 1}
    assert [cell.kind for cell in known.named] == ["firing", "routing"]
    assert hand.names() == {"baseline": 1}
    parts = hand.ready("firing_part")
    places = [("text", (0, 3)), ("text", (3, 6)), ("other", (0, 3)), ("other", (3, 6))]
    assert [(item.cell.task, item.windows) for item in parts] == places
    # All parts, then what is put together from them.
    for item in parts[1:]:
        hand.commit(item.cell)
    assert [item.cell for item in hand.ready("firing_part")] == [parts[0].cell]
    assert [cell.key for cell in hand.known().parts] == [item.cell.key for item in parts[1:]]
    assert hand.ready("firing") == []
    hand.commit(parts[0].cell)
    (firing,) = hand.ready("firing")
    assert firing.cell.cost == 0
    merged = [(p["key"], p["corpus"], tuple(p["windows"])) for p in firing.analysis["parts"]]
    assert merged == [(item.cell.key, *place) for item, place in zip(parts, places, strict=True)]
    hand.commit(firing.cell, firing=firing_rows({(1, 2)}))
    assert hand.ready("firing_part") == []
    assert hand.known().parts == ()
    check_ngrams(hand, places)
    check_routing(hand)
    assert hand.known().ready == ()
    assert hand.known().unavailable == ()
    assert [c.kind for c in hand.known().named] == ["firing", "ngrams", "routing", "removal"]


def check_ngrams(hand: ByHand, places: list) -> None:
    """After the firing: its labels are known, the n-grams are next."""
    sets = {c.name: dict(c.neurons) for c in hand.known().conditions}
    assert sets["dead"] == {1: (2,)}
    assert {layer: len(drawn) for layer, drawn in sets["dead_control"].items()} == {1: 1}
    assert hand.names() == {"baseline": 1, "dead": 1, "dead_control": 2}
    parts = hand.ready("ngrams_part")
    assert [(item.cell.task, item.windows) for item in parts] == places
    assert {item.analysis["firing"] for item in parts} == {hand.known().named[0].key}
    for item in parts:
        hand.commit(item.cell)
    (ngrams,) = hand.ready("ngrams")
    assert [part["key"] for part in ngrams.analysis["parts"]] == [i.cell.key for i in parts]
    hand.commit(ngrams.cell, ngrams=ngram_rows((0, 1), (1, 0)))
    sets = {c.name: dict(c.neurons) for c in hand.known().conditions}
    assert sets["detectors"] == {0: (1,), 1: (0,)}


def check_routing(hand: ByHand) -> None:
    assert hand.ready("removal") == []
    (routing,) = hand.ready("routing")
    hand.commit(routing.cell, routing_neurons=routing_rows({0: [4], 1: [3, 1]}))
    sets = {c.name: dict(c.neurons) for c in hand.known().conditions}
    assert sets["consensus"] == {1: (1, 3)}
    (removal,) = hand.ready("removal")
    assert removal.analysis["routing"] == routing.cell.key
    assert not removal.is_awaited
    assert routing.is_awaited
    hand.commit(removal.cell)


def test_units_tell_workers_all_that_they_need(analysis_job):
    job = analysis_job()
    hand = ByHand(job)

    def unit_of(item: Preparation):
        unit = preparing_unit(hand.sweep, hand.checkpoint, item, hand.store)
        assert unit.cells == (item.cell,)
        content_hash(unit.analysis)  # plain data, or this is an error
        corpus = parse_corpus(unit.corpus)
        assert corpora.fingerprint(corpus) == unit.data_fingerprint
        return unit

    for item in hand.ready("firing_part"):
        unit = unit_of(item)
        task = item.cell.task
        assert unit.windows == item.windows
        assert parse_corpus(unit.corpus) == job.corpus[task]
        assert unit.analysis["corpora"] == {task: job.corpus[task].model_dump()}
        assert unit.analysis["fingerprints"] == {task: unit.data_fingerprint}
        hand.commit(item.cell)
    unit = unit_of(hand.ready("firing")[0])
    assert list(unit.analysis["corpora"]) == ["text", "other"]
    assert TypeAdapter(FiringSpec).validate_python(unit.task) == job.firing
    assert unit.windows is None
    assert describe(unit) == "stories local: firing over text,other"
    unit = unit_of(hand.ready("routing")[0])
    assert TypeAdapter(RoutingSpec).validate_python(unit.analysis["spec"]) == job.routing
    assert unit.analysis["fingerprints"] == {"text": unit.data_fingerprint}
    assert describe(unit) == "stories local: routing over text"


def test_labels_that_nobody_has_are_unavailable_and_not_planned(analysis_job):
    job = analysis_job()
    hand = ByHand(job)
    sweep, checkpoint = hand.sweep, hand.checkpoint
    # One cell each of firing, n-grams, routing and removal; ten draws on two tasks.
    assert [part.cells for part in expected_work(sweep, checkpoint)] == [1, 1, 1, 1, 10, 10]
    assert expected_cells(sweep) == 4 + 20
    for item in hand.ready("firing_part"):
        hand.commit(item.cell)
    hand.commit(hand.ready("firing")[0].cell, firing=firing_rows(set()))
    (routing,) = hand.ready("routing")
    hand.commit(routing.cell, routing_neurons=routing_rows({0: [4]}))
    found = {item.condition: item for item in hand.known().unavailable}
    assert {name: item.num_cells for name, item in found.items()} == {
        "dead": 2,
        "dead_control": 4,
        "consensus": 2,
        "consensus_control": 4,
    }
    assert "labelled dead" in found["dead"].reason
    assert "layer 1" in found["consensus_control"].reason
    each = sum(facts.positions for facts in sweep.tasks.values())
    assert found["dead_control"].cost == pytest.approx(2 * each)
    standing = done_work(sweep, checkpoint, hand.store)
    work = expected_work(sweep, checkpoint, standing)
    assert [part.cells for part in work] == [1, 1, 1, 1, 4, 4]
    assert [part.done for part in work] == [1, 0, 1, 0, 0, 0]
    out = quiet()
    commands.plan(job, False, out, quiet())
    cells = next(line for line in out.file.getvalue().splitlines() if "stories" in line)
    assert cells.replace("│", " ").split()[:4] == ["stories", "local", "12", "2"]


def test_a_control_that_is_matched_to_what_cannot_be_had(analysis_job):
    neurons = {"kind": "matched", "match": "dead", "by": "perplexity", "task": "perplexity"}
    conditions = {
        "baseline": BASE,
        "dead": zero("dead"),
        "as_bad": {"operation": "zero", "neurons": neurons, "allow_unchanged": True},
        "draws": control("as_bad"),
    }
    census = {"corpus": "text", "length": 32, "windows": 4, "pairs": 0}
    job = analysis_job(
        condition=conditions, census=census, routing=None, firing={**FIRING, "ngrams": []}
    )
    hand = ByHand(job)
    work = expected_work(hand.sweep, hand.checkpoint)
    assert [part.cells for part in work] == [1, 1, 1, 5, 5]
    (first,) = hand.ready("census")
    shape = product(range(hand.checkpoint.num_layers), range(hand.checkpoint.num_neurons))
    rows = pd.DataFrame(shape, columns=["layer", "neuron"]).assign(num_tokens=9, wd=0.5)
    hand.commit(first.cell, neurons=rows)
    # There is a census, but nothing yet that anything could be matched to.
    assert hand.ready("match") == []
    assert hand.known().unavailable == ()
    for item in hand.ready("firing_part"):
        hand.commit(item.cell)
    hand.commit(hand.ready("firing")[0].cell, firing=firing_rows(set()))
    known = hand.known()
    assert known.ready == ()
    cells = {item.condition: item.num_cells for item in known.unavailable}
    assert cells == {"dead": 2, "as_bad": 3, "draws": 4}
    work = expected_work(
        hand.sweep, hand.checkpoint, done_work(hand.sweep, hand.checkpoint, hand.store)
    )
    assert [part.cells for part in work] == [1, 0, 1, 1, 1]
    assert len(known.named) + len(known.conditions) * 2 + sum(cells.values()) == expected_cells(
        hand.sweep
    )


def test_analyses_are_done_where_no_condition_waits_for_them(analysis_job):
    hand = ByHand(analysis_job(condition={"baseline": BASE}, firing=None))
    assert [item.cell.kind for item in hand.known().ready] == ["routing"]
    hand = ByHand(analysis_job(condition={"baseline": BASE}, routing=None))
    assert {item.cell.kind for item in hand.known().ready} == {"firing_part"}
    few = {**FIRING, "ngrams": [], "parts": "auto"}
    hand = ByHand(analysis_job(condition={"baseline": BASE}, firing=few, routing=None))
    parts: list[Part] = hand.sweep.firing_parts(hand.checkpoint)
    assert [part.windows for part in parts] == [(0, 6)] * 2
    assert hand.sweep.ngrams_cell(hand.checkpoint) is None
    none = {**ROUTING, "removal_windows": 0}
    hand = ByHand(analysis_job(condition={"baseline": BASE}, firing=None, routing=none))
    assert hand.sweep.removal_cell(hand.checkpoint) is None


def test_a_layer_that_is_not_there_is_one_line(analysis_job):
    beyond = {"baseline": BASE, "dead": zero("dead", layers=[1, 9])}
    with pytest.raises(UserError, match=r"^condition\.dead\.neurons\.layers = 9: model 'stories'"):
        prepare(analysis_job(condition=beyond))


def test_a_corpus_that_is_not_there_is_one_line(analysis_job, tmp_path):
    (tmp_path / "other.txt").unlink()
    with pytest.raises(UserError, match=r"^corpus\.other\.path: "):
        prepare(analysis_job())


# What follows computes.


def kinds(run: sweeper.Run) -> Counter:
    cells = run.store.table("cells").to_pandas()
    return Counter(cells.loc[cells["status"] == "done", "kind"])


def by_layer(rows: pd.DataFrame) -> dict[int, list[int]]:
    return {int(layer): sorted(group["neuron"]) for layer, group in rows.groupby("layer")}


def labelled(run: sweeper.Run) -> dict[str, dict[int, list[int]]]:
    """The sets of the job's labelled conditions, from the tables by pandas."""
    firing, ngrams, roles = map(run.table, ("firing", "ngrams", "routing_neurons"))
    dead = firing[(firing["corpus"] == "all") & (firing["active"] == 0)]
    consensus = roles[(roles["role"] == "consensus") & (roles["layer"] == 1)]
    detectors = ngrams[ngrams["detector"].astype(bool) & (ngrams["n"] == 1)]
    gateways = roles[roles["role"] == "gateway"]
    return {
        "dead": by_layer(dead),
        "detectors": by_layer(detectors),
        "consensus": by_layer(consensus),
        "gateways": by_layer(gateways),
    }


def test_a_sweep_with_labels_of_all_kinds(analysis_job, tmp_path, monkeypatch):
    further = {"gateways": zero("gateway"), "gateways_control": control("gateways")}
    job = analysis_job(condition=CONDITIONS | further)
    err = quiet()
    monkeypatch.setattr(sweeper.api.Run, "write_report", lambda _self: "page")
    finished = commands.run(job, quiet(), err)
    run = sweeper.open_run(job.name, job.store)
    wanted = labelled(run)
    lacking = {name for name, chosen in wanted.items() if not chosen}
    # The model has dead neurons under this threshold, and no gateway in so few tokens; what it
    # lacks is listed, not more.
    assert wanted["dead"]
    assert "gateways" in lacking
    assert not finished
    for name in wanted:
        listed = f"not available: stories local {name} (2 cells): " in err.file.getvalue()
        assert listed == (name in lacking)
    there = 3 * (len(wanted) - len(lacking)) + 1
    found = kinds(run)
    assert found == {
        **{"firing_part": 4, "firing": 1, "ngrams_part": 4, "ngrams": 1},
        **{"routing": 1, "removal": 1, "score": 2 * there},
    }
    manifest = run.manifest()
    assert len(manifest) == 4 + 2 * there
    scored = manifest[manifest["kind"] == "score"]
    sets = run.table("conditions").set_index("condition_key")
    for name, chosen in wanted.items():
        if chosen:
            check_set(scored, sets, name, chosen)
    check_firing(run)
    check_status(job)
    # All of it is there, for another run, too.
    again = sweeper.run_job(job.model_copy(update={"name": "again"}), quiet())
    assert again.folder.read_progress()["cells_reused"] == len(manifest)
    assert kinds(again) == found


def check_set(scored: pd.DataFrame, sets: pd.DataFrame, name: str, chosen: dict) -> None:
    (key,) = scored.loc[scored["condition"] == name, "condition_key"].unique()
    stored = sets.loc[[key]].set_index("layer")["neurons"]
    assert {layer: list(members) for layer, members in stored.items()} == chosen
    draws = scored.loc[scored["condition"] == f"{name}_control", "condition_key"].unique()
    assert len(draws) == 2
    for draw in draws:
        stored = sets.loc[[draw]].set_index("layer")["neurons"]
        assert {layer: len(drawn) for layer, drawn in stored.items()} == {
            layer: len(members) for layer, members in chosen.items()
        }


def check_firing(run: sweeper.Run) -> None:
    """Rows of all corpora together are the sum of those of each."""
    firing = run.table("firing").set_index(["layer", "neuron"]).sort_index()
    both = [firing[firing["corpus"] == name]["active"] for name in ("text", "other")]
    whole = firing[firing["corpus"] == "all"]
    np.testing.assert_array_equal(whole["active"], both[0] + both[1])
    assert set(whole["num_tokens"]) == {2 * 6 * 32}


def check_status(job: JobSpec) -> None:
    out = quiet()
    commands.status(job.name, job.store, out)
    said = out.file.getvalue()
    for stage in ("firing over text,other", "n-grams of text,other", "routing over text"):
        assert stage in said
    assert "removal of MLPs over text" in said


DEAD_ONLY = {
    "condition": {"baseline": BASE, "dead": zero("dead"), "dead_control": control("dead")},
    "routing": None,
}


@pytest.mark.parametrize("stopped", ["firing_part", "ngrams_part"])
def test_parts_that_are_there_are_not_computed_again(analysis_job, monkeypatch, stopped):
    job = analysis_job(**DEAD_ONLY)
    begun = Counter()
    original = worker.Worker._analysis

    def third_stops(self, held, unit, cell, rows):
        begun[cell.kind] += 1
        if begun[stopped] == 3:
            raise KeyboardInterrupt
        original(self, held, unit, cell, rows)

    with monkeypatch.context() as patched:
        patched.setattr(worker.Worker, "_analysis", third_stops)
        with pytest.raises(KeyboardInterrupt):
            sweeper.run_job(job, quiet())
    before = Store(job.store).table("cells").to_pandas()
    assert Counter(before["kind"])[stopped] == 2
    run = sweeper.run_job(job, quiet())
    assert run.complete
    cells = run.store.table("cells").to_pandas()
    assert not cells["cell_key"].duplicated().any()
    assert kinds(run) == {
        **{"firing_part": 4, "firing": 1, "ngrams_part": 4, "ngrams": 1, "score": 8}
    }
    kept = cells.set_index("cell_key").loc[before["cell_key"], "attempt"]
    assert kept.tolist() == before["attempt"].tolist()


def test_other_parts_and_more_detectors_of_the_same_firing(analysis_job):
    """Cut anew, the firing stands; the n-grams are counted without its parts."""
    few = {**FIRING, "ngrams": []}
    sweeper.run_job(analysis_job(**DEAD_ONLY, firing=few), quiet())
    run = sweeper.run_job(analysis_job(**DEAD_ONLY, firing={**FIRING, "parts": 3}), quiet())
    assert run.complete
    assert kinds(run) == {
        **{"firing_part": 4, "firing": 1, "ngrams_part": 6, "ngrams": 1, "score": 8}
    }


def test_an_analysis_that_fails_blocks_what_waits_for_it_and_nothing_else(
    analysis_job, monkeypatch
):
    original = worker.Worker._analysis

    def firing_fails(self, held, unit, cell, rows):
        if cell.kind == "firing":
            raise ArithmeticError("no such number")
        original(self, held, unit, cell, rows)

    job = analysis_job(**DEAD_ONLY)
    with monkeypatch.context() as patched:
        patched.setattr(worker.Worker, "_analysis", firing_fails)
        run = sweeper.run_job(job, quiet())
    assert [item.cell.kind for item in run.failed] == ["firing"]
    assert run.blocked == 1 + 2 * 3  # the n-grams, and the conditions on both tasks
    assert kinds(run) == {"firing_part": 4, "score": 2}
    mended = sweeper.run_job(job, quiet())
    assert mended.complete
    assert kinds(mended)["firing_part"] == 4
