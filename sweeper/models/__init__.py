"""Models: families as a data table, finding weights, and loading (``sweeper.models.loading``).

This package imports no torch; ``sweeper.models.loading`` does.
"""

from sweeper.models.cache import cache_folder
from sweeper.models.families import FAMILIES, Dimensions, Family, family_of
from sweeper.models.pull import pull
from sweeper.models.revisions import resolve_all
from sweeper.models.source import leased_folder, resolve, weights_folder

__all__ = [
    "FAMILIES",
    "Dimensions",
    "Family",
    "cache_folder",
    "family_of",
    "leased_folder",
    "pull",
    "resolve",
    "resolve_all",
    "weights_folder",
]
