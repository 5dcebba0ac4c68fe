import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.models.families import FAMILIES, Dimensions, dimensions, family_of


def test_unknown_family_names_the_nearest_and_all():
    with pytest.raises(UserError) as caught:
        family_of("qwen3_moe")
    text = str(caught.value)
    assert "'qwen3_moe'" in text
    assert "nearest is 'qwen3'" in text
    assert all(name in text for name in FAMILIES)
    assert "\n" not in text


def test_gpt2_width_is_four_times_hidden_where_not_given():
    config = {"n_layer": 12, "n_embd": 768, "n_positions": 1024, "n_inner": None}
    expected = Dimensions(num_layers=12, num_neurons=3072, context=1024)
    assert dimensions(family_of("gpt2"), config) == expected
    assert dimensions(family_of("gpt2"), {**config, "n_inner": 100}).num_neurons == 100


def test_missing_size_is_named():
    with pytest.raises(UserError, match="intermediate_size is None"):
        dimensions(family_of("llama"), {"num_hidden_layers": 2, "max_position_embeddings": 8})


def test_decoder_is_the_parent_of_the_layers():
    assert family_of("opt").decoder == "model.decoder"
    assert family_of("gpt2").decoder == "transformer"


def test_planning_imports_no_torch():
    program = "import sweeper.models, sys; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
