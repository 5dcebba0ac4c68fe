"""Row about the census: WD of all neurons, beyond the forward pass."""

from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from benchmarks.bench import Bench
from benchmarks.items import SkippedError
from benchmarks.results import Finding
from benchmarks.sides import kept_activations
from benchmarks.sides.kept_activations import Obvious
from benchmarks.timing import Timed, in_turn
from sweeper.neurons.census import CensusOptions, census
from sweeper.neurons.passes import read
from sweeper.score.memory import TokenBudget, first_budget
from sweeper.score.tokens import Row, windows

LENGTH = 2048
FORWARD, STREAMING, WITH_MD, OBVIOUS = "forward pass", "census", "census with MD", "scipy"


def census_wd(bench: Bench, name: str, goal: float) -> Finding:
    """Time of the obvious way over that of the streaming census, both without the forward pass."""
    rows = text_windows(bench)
    neurons = _sample(bench)
    budget = TokenBudget(first_budget(bench.model, bench.spec))
    each = max(budget.positions // len(rows[0]), 1)
    batches = [rows[first : first + each] for first in range(0, len(rows), each)]
    _census(bench, rows[:1], budget, 0)
    timed = in_turn(
        {
            FORWARD: lambda: read(bench.model, rows, range(len(rows)), budget, lambda _: None),
            STREAMING: lambda: _census(bench, rows, budget, 0),
            WITH_MD: lambda: _census(bench, rows, budget, CensusOptions(fingerprint="").num_pairs),
            OBVIOUS: lambda: kept_activations.distances(bench.model, batches, neurons),
        },
        bench.repeats,
        name,
    )
    return _finding(bench, name, goal, timed, neurons, sum(map(len, rows)))


def _finding(
    bench: Bench,
    name: str,
    goal: float,
    timed: dict[str, Timed],
    neurons: list[tuple[int, int]],
    num_tokens: int,
) -> Finding:
    total = len(bench.model.sites) * bench.model.checkpoint.num_neurons
    last: Obvious = timed[OBVIOUS].result
    # Scipy's time is taken from the last turn; it is multiplied where it saw some neurons only.
    missing = last.scipy_seconds * (total / len(neurons) - 1)
    beyond = {
        side: [a - b for a, b in zip(timed[side].seconds, timed[FORWARD].seconds, strict=True)]
        for side in (STREAMING, WITH_MD, OBVIOUS)
    }
    obvious = [seconds + missing for seconds in beyond[OBVIOUS]]
    table: pd.DataFrame = timed[STREAMING].result
    ours = table.set_index(["layer", "neuron"]).loc[neurons]
    difference = float(np.abs(ours["wd"].to_numpy() - last.wd).max())
    bound = float(table["wd_bound"].max())
    with_md = median(obvious) / median(beyond[WITH_MD])
    seconds = median(beyond[STREAMING])
    notes = [
        f"{total} neurons, {num_tokens} tokens: {seconds:.1f} s beyond the forward pass "
        f"({seconds / total / num_tokens * 1e9:.1f} ns per value), scipy {median(obvious):.0f} s",
        f"with MD, {median(beyond[WITH_MD]):.1f} s: ratio {with_md:.3f}",
        "peak memory above the model: "
        + ", ".join(f"{side} {one.peak_bytes / 2**20:.0f} MiB" for side, one in timed.items()),
        f"largest difference in WD {difference:.2g} (scipy's normal sample is random), error bound "
        f"of ours {bound:.2g}",
    ]
    if len(neurons) < total:
        notes.append(
            f"scipy timed on {len(neurons)} of {total} neurons, its time multiplied accordingly"
        )
    return Finding(
        name=name,
        goal=goal,
        ratios=[a / b for a, b in zip(obvious, beyond[STREAMING], strict=True)],
        sides=timed,
        details={
            "beyond_forward": {**beyond, OBVIOUS: obvious},
            "ratio_with_md": with_md,
            "neurons": total,
            "neurons_timed": {OBVIOUS: len(neurons)},
            "tokens": num_tokens,
            "largest_difference": {"wd": difference},
            "wd_bound": bound,
        },
        notes=notes,
    )


def _census(bench: Bench, rows: list[Row], budget: TokenBudget, num_pairs: int) -> pd.DataFrame:
    options = CensusOptions(num_pairs=num_pairs, fingerprint="benchmark")
    return census(bench.model, rows, budget, options)


def text_windows(bench: Bench, longest: int = LENGTH) -> list[Row]:
    """Windows of WikiText-2, as long as the model takes them, up to the benchmark's tokens."""
    file: Path = bench.data / "wikitext2" / "raw" / "wiki.test.raw"
    if not file.is_file():
        raise SkippedError("no wikitext2/raw/wiki.test.raw in the data folder (--data)")
    length = min(longest, bench.model.checkpoint.context)
    number = max(bench.sizes.census_tokens // length, 1)
    return windows(bench.model.tokenizer, file.read_text(), length, length, number)


def _sample(bench: Bench) -> list[tuple[int, int]]:
    """Neurons that scipy is timed on: evenly spaced over all layers."""
    size = bench.model.checkpoint.num_neurons
    total = len(bench.model.sites) * size
    count = min(bench.sizes.census_neurons or total, total)
    return [divmod(total * place // count, size) for place in range(count)]
