"""What a unit that reads text adds to the store."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Rows by table, without cell key and attempt, and what they took."""

    tables: Mapping[str, pd.DataFrame]
    num_items: int
    """Neurons, layers or levels that the rows are about."""
    num_tokens: int
    """Token positions computed."""
