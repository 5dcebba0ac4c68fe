"""What all rows of the benchmark share: the model, the data, and how much to measure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.conditions import BASELINE
from benchmarks.items import Items, Sums
from benchmarks.sides import engine
from sweeper.models import resolve, weights_folder
from sweeper.models.loading import LoadedModel, load
from sweeper.records import Checkpoint, Condition
from sweeper.score.engine import Work
from sweeper.score.memory import first_budget
from sweeper.spec.model import ModelSpec

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much each row measures; the defaults are those of the table of goals."""

    blimp_per_paradigm: int = 20
    tse_per_template: int = 100
    layer_pairs: int = 200
    control_pairs: int = 400
    random_sets: int = 10
    hellaswag_items: int = 200
    rate_seconds: float = 1.0
    """For each shape of the matrix-multiply rate."""
    loop_conditions: int | None = 12
    """Conditions of the layer sweep that the obvious loop is timed on, the time of all being
    inferred from it; None for all. The next two alike, for the control sweep."""
    library_conditions: int | None = 4
    relaunched_conditions: int | None = 2
    census_tokens: int = 2**15
    census_neurons: int | None = 3072
    """Neurons that scipy is timed on, evenly spaced, its time for all being inferred; None for
    all."""
    routing_layers: int | None = 3
    """Layers that a pass for each is timed on, likewise."""
    aggregate_conditions: int = 1000
    aggregate_items: int = 1000
    """Items of each of the 67 clusters."""


FULL = Sizes(
    loop_conditions=None,
    library_conditions=None,
    relaunched_conditions=None,
    census_neurons=None,
    routing_layers=None,
)
QUICK = Sizes(
    blimp_per_paradigm=1,
    tse_per_template=2,
    layer_pairs=8,
    control_pairs=16,
    random_sets=2,
    hellaswag_items=4,
    rate_seconds=0.1,
    loop_conditions=3,
    library_conditions=2,
    relaunched_conditions=1,
    census_tokens=2048,
    census_neurons=64,
    routing_layers=2,
    aggregate_conditions=40,
    aggregate_items=20,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A loaded model and what to do with it."""

    model: LoadedModel
    spec: ModelSpec
    folder: Path
    """The model's files in Hugging Face format."""
    data: Path
    """The public evaluation data."""
    aside: Path
    """For files that are needed while the benchmark runs."""
    sizes: Sizes
    repeats: int

    def another_model(self) -> LoadedModel:
        """The same weights once more, for a side that changes the modules it is given."""
        return load(self.model.checkpoint, self.spec, self.folder)

    def engine(
        self,
        items: Items,
        conditions: Sequence[Condition] = (BASELINE,),
        *,
        margins_only: bool = False,
        greedy: bool = False,
        work: Work | None = None,
    ) -> Sums:
        """Our side, with as many positions at once as the product begins with."""
        return engine.score(
            self.model,
            items,
            conditions,
            first_budget(self.model, self.spec),
            margins_only=margins_only,
            greedy=greedy,
            work=work,
        )

    def check(self, items: Items) -> Items:
        """The items if the model takes them all."""
        return items.require_context(self.model.checkpoint.context)


def open_bench(model: str, data: Path, aside: Path, sizes: Sizes, repeats: int) -> Bench:
    """Load a model by its name in ``conf/model`` or from a folder, as a job would.

    Raises:
        UserError: it cannot be found or loaded.
        FileNotFoundError: there is no such option and no such folder.
    """
    spec = _spec(model)
    checkpoint: Checkpoint = resolve(Path(model).name, spec, "cpu")
    folder = weights_folder(checkpoint, spec)
    loaded = load(checkpoint, spec, folder)
    return Bench(
        model=loaded,
        spec=spec,
        folder=folder,
        data=data,
        aside=aside,
        sizes=sizes,
        repeats=repeats,
    )


def _spec(model: str) -> ModelSpec:
    if Path(model).is_dir():
        return ModelSpec(path=model)
    option = yaml.safe_load((ROOT / "conf" / "model" / f"{model}.yaml").read_text())
    return ModelSpec.model_validate(option[model])
