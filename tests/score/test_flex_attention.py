"""FlexAttention with block masks gives what the additive masks give, forks included.

Without a GPU its rules are carried out one operation at a time, uncompiled: slow, and exact.
"""

import numpy as np
import pytest
import torch
from tiny_models import build_tiny, load_folder

from sweeper.records import Condition
from sweeper.score.engine import score_texts
from sweeper.score.memory import TokenBudget
from sweeper.score.texts import Texts

pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]

LENGTHS = (2, 9, 30, 40)


def texts() -> Texts:
    """Random texts, each with one that parts from it in the middle."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(100, size=length).tolist() for length in LENGTHS]
    rows += [[*row[: len(row) // 2], *rng.integers(100, size=7).tolist()] for row in rows]
    return Texts(rows=rows)


def conditions() -> list[Condition]:
    early = Condition(name="early", seed=None, operation="zero", neurons={0: (0, 3)})
    late = Condition(name="late", seed=None, operation="negative_clamp", neurons={2: (1, 2)})
    return [Condition(name="baseline", seed=None, operation=None), early, late]


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("llama", {}),
        ("gpt_neox", {}),
        ("mistral", {"sliding_window": 6}),
    ],
)
def test_equals_additive_masks(tmp_path, model_type, changes):
    folder = build_tiny(model_type, tmp_path / "model", **changes)
    expected = score_texts(
        load_folder(model_type, folder), texts(), conditions(), TokenBudget(10_000)
    )
    with torch.compiler.set_stance("force_eager"):
        model = load_folder(model_type, folder, attention="flex_attention")
        assert model.model.config._attn_implementation == "flex_attention"
        scored = score_texts(model, texts(), conditions(), TokenBudget(10_000))
        again = score_texts(model, texts(), conditions(), TokenBudget(60))
    for scores in (scored, again):
        for one, other in zip(scores, expected, strict=True):
            for found, wanted in zip(one.logprobs, other.logprobs, strict=True):
                np.testing.assert_allclose(found, wanted, atol=2e-5)
