"""What a worker does for a profile: it looks at single neurons over a part of the census' text."""

from pydantic import TypeAdapter

from sweeper.models.loading import LoadedModel
from sweeper.neurons.profile import Profiles, profile
from sweeper.records import Unit
from sweeper.run.census_work import census_text
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import windows
from sweeper.spec.corpus import CensusSpec
from sweeper.spec.profile import ProfileSpec


def profiles_of(model: LoadedModel, unit: Unit, budget: TokenBudget) -> Profiles:
    """Compute a unit of kind ``profile``.

    Args:
        model: the loaded model, without clamps.
        unit: of one cell, with the census as its task.
        budget: most positions in one forward pass.

    Raises:
        ValueError: the unit is no profile, or the text has no window.
        StaleDataError: the text is another one than the driver's.
        FloatingPointError: an activation is NaN or infinite.
    """
    if unit.profile is None:
        raise ValueError("the unit is no profile")
    spec = TypeAdapter(ProfileSpec).validate_python(unit.profile["spec"])
    census = TypeAdapter(CensusSpec).validate_python(unit.task)
    text, fingerprint = census_text(unit)
    length = min(census.length, model.checkpoint.context)
    rows = windows(model.tokenizer, text, length, length, spec.windows)
    neurons = unit.profile["neurons"]
    return profile(model, rows, neurons, budget, spec.pairs, fingerprint)
