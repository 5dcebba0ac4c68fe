"""Row about the firing census: what both of its passes cost beyond their forward passes."""

from collections.abc import Sequence
from statistics import median

from benchmarks.bench import Bench
from benchmarks.census_rows import text_windows
from benchmarks.results import Finding
from benchmarks.timing import Timed, in_turn
from sweeper.neurons.detectors import COVER
from sweeper.neurons.firing import Firing, FirstPass, firing_of
from sweeper.neurons.ngram_pass import ngram_counts
from sweeper.neurons.ngrams import NgramCounts, Rule
from sweeper.neurons.passes import read
from sweeper.neurons.positional import positional_types
from sweeper.score.memory import TokenBudget, first_budget
from sweeper.spec.firing import FiringSpec

FORWARD, FIRING, SUMMARY, NGRAMS = "forward pass", "firing", "rates and types", "n-grams"
SPEC = FiringSpec(corpora=["text"])


def firing_cost(bench: Bench, name: str, goal: float) -> Finding:
    """Time of both passes beyond a forward pass each, over that of one forward pass."""
    rows = text_windows(bench)
    model, every, length = bench.model, range(len(rows)), len(rows[0])
    budget = TokenBudget(first_budget(model, bench.spec))
    rules = {n: Rule(SPEC.most_ngrams, COVER) for n in SPEC.ngrams}
    counted = firing_of(model, rows, every, budget, 0.0, length)
    known = _known(counted)
    timed = in_turn(
        {
            FORWARD: lambda: read(model, rows, every, budget, lambda _: None),
            FIRING: lambda: firing_of(model, rows, every, budget, 0.0, length),
            NGRAMS: lambda: ngram_counts(model, rows, every, budget, 0.0, known, rules),
            SUMMARY: lambda: _summary(counted),
        },
        bench.repeats,
        name,
    )
    return _finding(name, goal, timed, known, len(rows) * length)


def _known(counted: Sequence[Firing]) -> list[FirstPass]:
    return [of_layer.first_pass(COVER) for of_layer in counted]


def _summary(counted: Sequence[Firing]) -> list[FirstPass]:
    """What follows the first pass once, however long the text is."""
    for of_layer in counted:
        positional_types(of_layer.frequency_by_position(), of_layer.num_windows)
    return _known(counted)


def _finding(
    name: str, goal: float, timed: dict[str, Timed], known: list[FirstPass], num_tokens: int
) -> Finding:
    forward = timed[FORWARD].seconds
    shares = {
        side: [
            seconds / alone - 1 for seconds, alone in zip(timed[side].seconds, forward, strict=True)
        ]
        for side in (FIRING, NGRAMS)
    }
    together = [sum(both) for both in zip(*shares.values(), strict=True)]
    hopeful = sum(int((one.least[0] <= SPEC.most_ngrams).sum()) for one in known)
    found: list[dict[int, NgramCounts]] = timed[NGRAMS].result
    kept = {n: sum(int(of_layer[n].kept.sum()) for of_layer in found) for n in SPEC.ngrams}
    total = sum(one.least.shape[1] for one in known)
    notes = [
        f"{num_tokens} tokens, a forward pass takes {median(forward):.1f} s; beyond it: "
        + ", ".join(f"{side} {median(share):.3f}" for side, share in shares.items()),
        f"{SUMMARY} of all neurons: {median(timed[SUMMARY].seconds):.1f} s, once for all text",
        f"{total} neurons, {hopeful} may be explained by {SPEC.most_ngrams} n-grams after the "
        "first pass; explained by n-grams of length "
        + ", ".join(f"{n}: {number}" for n, number in kept.items()),
        "peak memory above the model: "
        + ", ".join(f"{side} {one.peak_bytes / 2**20:.0f} MiB" for side, one in timed.items()),
    ]
    return Finding(
        name=name,
        goal=goal,
        at_most=True,
        ratios=together,
        sides=timed,
        details={"shares": shares, "tokens": num_tokens, "hopeful": hopeful, "explained": kept},
        notes=notes,
    )
