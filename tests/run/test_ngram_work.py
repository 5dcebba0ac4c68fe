from collections import Counter

import numpy as np
import pytest
import torch
from firing_units import Analysis, active_neurons
from planted.firing_model import LENGTH, TOKENS, build_firing_model
from planted.firing_model import texts as random_tokens
from planted.words import save_words
from tiny_models import load_folder

from sweeper.run.census_work import MissingPartError
from sweeper.run.firing_work import firing, firing_part
from sweeper.run.ngram_work import ngrams, ngrams_part
from sweeper.score.memory import TokenBudget
from sweeper.spec.firing import FiringSpec

BUDGET = TokenBudget(4096)
PARTS = {"one": [(0, 2), (2, 9), (9, 12)], "two": [(0, 4), (4, 12)]}
MOST = {1: 5, 2: 50, 3: 50}


@pytest.fixture
def texts(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    words = [
        "once",
        "upon",
        "a",
        "time",
        "there",
        "was",
        "little",
        "cat",
        "the",
        "big",
        "dog",
        "ran",
    ]
    drawn = np.random.default_rng(0).choice(words, size=800)
    one.write_text(" ".join(drawn))
    two.write_text("Lily likes to play with her red ball. One day the ball fell in a pond. " * 14)
    return {"one": one, "two": two}


def census(of, parts):
    """Key of the cell of n-grams, everything before it being computed."""
    units = [of.part("firing_part", name, some) for name, cut in parts.items() for some in cut]
    for one in units:
        of.keep(one, firing_part(of.model, one, BUDGET, of.store.uri))
    whole = of.whole("firing", units)
    known = of.keep(whole, firing(of.model, whole, BUDGET, of.store.uri))
    units = [
        of.part("ngrams_part", name, some, firing=known)
        for name, cut in parts.items()
        for some in cut
    ]
    for one in units[::-1]:
        of.keep(one, ngrams_part(of.model, one, BUDGET, of.store.uri))
    whole = of.whole("ngrams", units, firing=known)
    return of.keep(whole, ngrams(of.model, whole, BUDGET, of.store.uri))


def triggers(rows, active_WTF, n, special):
    """Neuron -> counter of n-grams, and how often each occurs, spelt out."""
    counts, occurrences = [Counter() for _ in range(active_WTF.shape[-1])], Counter()
    for row, active in zip(rows, active_WTF, strict=True):
        for end in range(n - 1, len(row)):
            ngram = tuple(row[end - n + 1 : end + 1])
            if not special & set(ngram):
                occurrences[ngram] += 1
                for neuron in np.flatnonzero(active[end]):
                    counts[neuron][ngram] += 1
    return counts, occurrences


def expected_of(counter, occurrences, n, spec):
    """to_cover (None beyond ``most``) and the covered n-grams of a detector (None: it is none)."""
    total = sum(counter.values())
    within = np.cumsum([count for _, count in counter.most_common()])
    to_cover = int((within < 0.95 * total - 1e-9).sum()) + 1
    told = to_cover if to_cover <= spec.most_ngrams else None
    covered = {g: c for g, c in counter.items() if c >= 0.95 * occurrences[g] - 1e-9}
    enough = to_cover <= MOST[n] and sum(covered.values()) >= 0.95 * total - 1e-9
    enough = enough and total >= spec.least_activations
    return told, covered if enough else None


def check(of, key, threshold):
    """Compare the tables with brute force; how many neurons are explained, and detect."""
    rows = [row for rows in of.rows.values() for row in rows]
    special = set(of.model.tokenizer.all_special_ids)
    table, detected = of.table("ngrams", key), of.table("detected", key)
    by_neuron = table.set_index(["layer", "n", "neuron"])
    assert by_neuron.index.is_unique
    num_rows = num_explained = num_detectors = 0
    for layer, active in enumerate(active_neurons(of.model, rows, threshold)):
        for n in of.spec.ngrams:
            counts, occurrences = triggers(rows, active, n, special)
            for neuron, counter in enumerate(counts):
                if not counter:
                    continue
                to_cover, covered = expected_of(counter, occurrences, n, of.spec)
                row = by_neuron.loc[(layer, n, neuron)]
                assert row["activations"] == sum(counter.values())
                assert (None if np.isnan(row["to_cover"]) else row["to_cover"]) == to_cover
                assert row["detector"] == (covered is not None)
                assert row["num_covered"] == len(covered or {})
                num_rows, num_explained = num_rows + 1, num_explained + (to_cover is not None)
                if covered is not None:
                    num_detectors += 1
                    which = (detected["layer"] == layer) & (detected["n"] == n)
                    theirs = detected[which & (detected["neuron"] == neuron)]
                    found = {
                        tuple(one.tokens.tolist()): (one.count_, one.occurrences)
                        for one in theirs.rename(columns={"count": "count_"}).itertuples()
                    }
                    assert found == {g: (c, occurrences[g]) for g, c in covered.items()}
    assert len(table) == num_rows
    assert len(detected.groupby(["layer", "n", "neuron"])) == num_detectors
    return num_explained, num_detectors


def test_equals_brute_force_on_a_trained_model(stories, texts, tmp_path):
    spec = FiringSpec(corpora=["one", "two"], length=64, windows=12, threshold=0.5, most_ngrams=12)
    of = Analysis(stories, spec, texts, tmp_path / "store")
    key = census(of, PARTS)
    num_explained, num_detectors = check(of, key, 0.5)
    assert num_explained > 100
    assert num_detectors > 0
    few = Analysis(stories, spec.model_copy(update={"most_ngrams": 2}), texts, tmp_path / "few")
    fewer_explained, same_detectors = check(few, census(few, PARTS), 0.5)
    assert 0 < fewer_explained < num_explained
    assert same_detectors == num_detectors
    often = Analysis(
        stories, spec.model_copy(update={"least_activations": 8}), texts, tmp_path / "often"
    )
    _, num_often = check(often, census(often, PARTS), 0.5)
    assert 0 < num_often < num_detectors
    table = of.table("ngrams", key)
    assert table["to_cover"].isna().any()
    check_projections(of, key, 0.5)


def of_neuron(frame, row):
    return frame[(frame["layer"] == row.layer) & (frame["neuron"] == row.neuron)]


def factors_of(of, threshold):
    """(layer, neuron, token) -> mean factor where the neuron is active, by plain hooks."""
    found, rows = {}, [row for rows in of.rows.values() for row in rows]
    for site, layer in zip(of.model.sites, of.model.layers, strict=True):
        kept = {"act": [], "up": []}
        handles = [
            module.register_forward_hook(lambda _m, _i, o, to=kept[name]: to.append(o[0].clone()))
            for name, module in (("act", layer.mlp.act_fn), ("up", layer.mlp.up_proj))
        ]
        with torch.inference_mode():
            for row in rows:
                of.model.model(input_ids=torch.tensor([row]))
        for handle in handles:
            handle.remove()
        factors = {}
        for row, active, up in zip(rows, kept["act"], kept["up"], strict=True):
            for place, neuron in (active > threshold).nonzero().tolist():
                value = float(up[place, neuron])
                factors.setdefault((neuron, row[place]), []).append(value)
        found |= {(site.layer, *names): values for names, values in factors.items()}
    return found


def check_projections(of, key, threshold):
    """What token detectors write, from the weights and gates; texts as they are read."""
    factors = factors_of(of, threshold)
    signs = set()
    detected, told = of.table("detected", key), of.table("projections", key)
    table = of.table("ngrams", key)
    detectors = table[(table["n"] == 1) & table["detector"]]
    head = of.model.model.lm_head.weight.double().numpy()
    for row in detectors.itertuples():
        written = of.model.sites[row.layer].output.weight[:, row.neuron].double().numpy()
        logits = head @ written
        own = of_neuron(detected[detected["n"] == 1], row)
        tokens = [one for (one,) in own["tokens"]]
        several = [factors[(row.layer, row.neuron, token)] for token in tokens]
        means = np.array([np.mean(some) for some in several])
        effect = (logits[tokens] * means).mean()
        np.testing.assert_allclose(own["factor"], means, atol=1e-5)
        np.testing.assert_allclose(own["projection"], logits[tokens] * means, atol=1e-5)
        assert row.projection == pytest.approx(effect, abs=1e-5)
        assert row.suppresses == (effect < 0)
        signs.add(effect < 0 and logits[tokens].mean() > 0)
        logits = logits * np.mean(np.concatenate(several))
        for direction, sign in (("promoted", -1), ("suppressed", 1)):
            ends = of_neuron(told[told["direction"] == direction], row).sort_values("rank")
            assert len(ends) == of.spec.tokens
            order = np.argsort(sign * logits, kind="stable")[: of.spec.tokens]
            np.testing.assert_allclose(ends["logit"], logits[order], atol=1e-5)
            np.testing.assert_allclose(logits[ends["token"]], logits[order], atol=1e-5)
            texts = [of.model.tokenizer.decode([token]) for token in ends["token"]]
            assert [text.strip() for text in ends["text"]] == [text.strip() for text in texts]
    assert True in signs  # the weights alone say otherwise
    others = table.drop(detectors.index)
    assert others[["projection", "suppresses"]].isna().all(axis=None)
    assert detected.loc[detected["n"] > 1, "factor"].isna().all()


def test_equals_brute_force_on_a_random_model(tiny_model, texts, tmp_path):
    spec = FiringSpec(
        corpora=["one", "two"], length=24, windows=12, ngrams=[1, 3], threshold=0.3, most_ngrams=20
    )
    of = Analysis(tiny_model("gpt2"), spec, texts, tmp_path / "store")
    num_explained, _ = check(of, census(of, PARTS), 0.3)
    assert num_explained > 10
    assert set(of.store.table("ngrams")["n"].to_pylist()) == {1, 3}


def test_parts_are_the_whole_bit_for_bit(stories, texts, tmp_path):
    spec = FiringSpec(corpora=["one", "two"], length=64, windows=12, threshold=0.5)
    of = Analysis(stories, spec, texts, tmp_path / "store")
    in_parts, at_once = (
        census(of, parts) for parts in (PARTS, {"one": [(0, 12)], "two": [(0, 12)]})
    )
    for name in ("ngrams", "detected", "projections"):
        one, other = of.table(name, in_parts), of.table(name, at_once)
        assert len(one)
        # Batches of another size compute factors that differ by rounding.
        sums = [column for column in ("projection", "factor", "logit") if column in one]
        assert one.drop(columns=sums).astype(str).equals(other.drop(columns=sums).astype(str))
        np.testing.assert_allclose(one[sums], other[sums], rtol=1e-4, atol=1e-6)


def test_a_missing_firing_census_is_a_failure(tiny_model, texts, tmp_path):
    spec = FiringSpec(corpora=["one"], length=24, windows=12)
    of = Analysis(tiny_model("opt"), spec, texts, tmp_path / "store")
    part = of.part("ngrams_part", "one", (0, 2), firing="nowhere")
    with pytest.raises(MissingPartError, match="lacks the firing census"):
        ngrams_part(of.model, part, BUDGET, of.store.uri)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Truth, analysis and key of a planted model, over two corpora of three parts each."""
    folder = tmp_path_factory.mktemp("planted")
    truth = build_firing_model(folder / "model")
    save_words(folder / "model", TOKENS)
    texts = {}
    for seed, name in enumerate(("one", "two"), start=1):
        texts[name] = folder / f"{name}.txt"
        rows = random_tokens(200, seed)
        texts[name].write_text(" ".join(f"w{token}" for row in rows for token in row))
    spec = FiringSpec(corpora=["one", "two"], length=LENGTH, windows=200, tokens=3)
    of = Analysis(load_folder("opt", folder / "model"), spec, texts, folder / "store")
    parts = {name: [(0, 70), (70, 140), (140, 200)] for name in texts}
    return truth, of, census(of, parts)


@pytest.mark.parametrize("layer", [0, 1])
def test_planted_neurons_are_found(planted, layer):
    truth, of, key = planted
    rows = of.table("firing", "firing-of-6")
    rows = rows[(rows["corpus"] == "all") & (rows["layer"] == layer)].set_index("neuron")
    assert set(rows.index[rows["active"] == 0]) == truth.dead[layer]
    kinds = rows[rows["positional"]]
    assert (
        dict(zip(kinds.index, zip(kinds["type"], kinds["strong"], strict=True), strict=True))
        == (truth.positional[layer])
    )
    detected = of.table("detected", key)
    detected = detected[detected["layer"] == layer]
    found = {n: {} for n in (1, 2, 3)}
    for row in detected.itertuples():
        found[row.n].setdefault(row.neuron, []).append(tuple(row.tokens.tolist()))
        assert row.text == " ".join(f"w{token}" for token in row.tokens)
    tokens = {neuron: {one for (one,) in several} for neuron, several in found[1].items()}
    assert tokens == truth.detectors[layer]
    for neuron, ngram in truth.bigrams[layer].items():
        assert found[2][neuron] == [ngram]
    table = of.table("ngrams", key)
    table = table[(table["layer"] == layer) & (table["n"] == 1)]
    suppressing = table[table["suppresses"].eq(True)]["neuron"]
    assert set(suppressing) == truth.suppressing[layer]
    projections = of.table("projections", key)
    theirs = projections[projections["layer"] == layer]
    assert set(theirs["neuron"]) == set(truth.detectors[layer])
    assert (theirs.groupby(["neuron", "direction"]).size() == 3).all()
