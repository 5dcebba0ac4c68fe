"""The program behind ``make bench``: ``python -m benchmarks`` with ``tests`` on the path."""

import argparse
import datetime as dt
import tempfile
from functools import cache, partial
from pathlib import Path

import datasets

from benchmarks import bench, machine, results
from benchmarks.rows import ROWS, measure


def main() -> None:
    """Measure the wanted rows; print and keep each as soon as it is there."""
    options = _options()
    machine.require_all_cores()
    datasets.disable_progress_bars()
    sizes = bench.QUICK if options.quick else bench.FULL if options.full else bench.Sizes()
    facts = machine.facts()
    print(f"{options.model} on {facts['device']}, {facts['threads']} threads, float32")
    print(results.heading(), flush=True)
    with tempfile.TemporaryDirectory() as aside:
        opened = cache(
            partial(
                bench.open_bench,
                *(options.model, options.data, Path(aside), sizes, options.repeats),
            )
        )
        for name in options.only:
            finding = measure(opened, sizes, options.repeats, name)
            print("\n".join(finding.lines()), flush=True)
            if options.output is not None:
                now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
                about = {"model": Path(options.model).name, "quick": options.quick, "date": now}
                results.write(options.output, {**finding.record(), **about, **facts})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--only", type=_names, default=list(ROWS), metavar="ROW,...")
    parser.add_argument("--repeats", type=int, help="turns of each side (3; 1 if quick)")
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("--quick", action="store_true", help="few items, nothing is kept")
    how_much.add_argument(
        "--full", action="store_true", help="time slow sides on all conditions, not on some"
    )
    parser.add_argument("--model", default="smollm2-135m", help="option of conf/model, or folder")
    parser.add_argument(
        "--data", type=Path, default=bench.ROOT.parent / "shared" / "data", help="evaluation data"
    )
    parser.add_argument("--output", type=Path, help="where to keep the figures (bench.json)")
    options = parser.parse_args()
    options.repeats = options.repeats or (1 if options.quick else 3)
    if options.output is None and not options.quick:
        options.output = bench.ROOT / "bench.json"
    return options


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {unknown}; rows are {', '.join(ROWS)}")
    return names


if __name__ == "__main__":
    main()
