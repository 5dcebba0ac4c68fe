from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_models import TINY_CONFIGS, build_tiny, load_folder
from torch.profiler import ProfilerActivity, profile

from sweeper.clamp.hooks import clamped
from sweeper.models.families import FAMILIES
from sweeper.models.shape import Shape, shape
from sweeper.records import Condition
from sweeper.score.engine import score_texts
from sweeper.score.memory import MOST_POSITIONS, TokenBudget, first_budget, position_bytes
from sweeper.score.texts import Texts
from sweeper.spec.model import ModelSpec

WIDTHS = {"hidden_size": 128, "intermediate_size": 512, "max_position_embeddings": 512}


def medium_model(model_type: str, folder, **changes):
    """Wide enough for activations to outweigh everything else."""
    widths = {} if model_type == "gpt2" else WIDTHS
    own = {
        "gpt2": {"n_embd": 128, "n_inner": 512, "n_positions": 512},
        "opt": {"ffn_dim": 512, "word_embed_proj_dim": 128},
    }
    heads = {"head_dim": 32} if "head_dim" in TINY_CONFIGS[model_type] else {}
    window = {"sliding_window": 512} if "sliding_window" in TINY_CONFIGS[model_type] else {}
    sizes = widths | own.get(model_type, {}) | heads | window | changes
    return load_folder(model_type, build_tiny(model_type, folder, **sizes))


def shape_of(model) -> Shape:
    return shape(model.family, model.model.config.to_dict())


@torch.inference_mode()
def peak_bytes(compute: Callable[[], object]) -> int:
    """Most memory that the CPU allocator gave out at once, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        compute()
    events = profiler.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return int(np.cumsum(changes).max())


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_the_estimate_is_one_to_three_times_what_a_pass_takes(tmp_path, model_type):
    model = medium_model(model_type, tmp_path)
    tokens = torch.randint(128, (8, 96))
    neurons = {layer: tuple(range(40)) for layer in range(3)}
    everywhere = Condition(name="c", seed=None, operation="zero", neurons=neurons)
    with clamped(model, everywhere):
        model.hidden_states(tokens)  # what is made once and kept is no activation
        measured = peak_bytes(lambda: model.hidden_states(tokens)) / tokens.numel()
    eager = model.checkpoint.attention == "eager"
    estimate = position_bytes(shape_of(model), "float32", tokens.shape[1] if eager else None)
    assert measured < estimate < 3 * measured


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_that_is_wider_than_the_mlp(tmp_path, attention):
    widths = {"num_attention_heads": 8, "head_dim": 64, "intermediate_size": 64}
    folder = build_tiny("qwen3", tmp_path, **{**WIDTHS, **widths})
    model = load_folder("qwen3", folder, attention=attention)
    tokens = torch.randint(128, (2, 256))
    model.hidden_states(tokens)
    measured = peak_bytes(lambda: model.hidden_states(tokens)) / tokens.numel()
    estimate = position_bytes(shape_of(model), "float32", 256 if attention == "eager" else None)
    assert measured < estimate < 3 * measured


def test_half_precision_takes_half(tiny_model):
    sizes = shape_of(tiny_model("llama"))
    assert position_bytes(sizes, "bfloat16") == position_bytes(sizes, "float32") / 2


def test_the_engine_stays_within_the_estimate(tmp_path):
    model = medium_model("llama", tmp_path)
    rng = np.random.default_rng(0)
    texts = Texts(rows=rng.integers(128, size=(40, 33)).tolist())
    conditions = [
        Condition(name=str(n), seed=None, operation="zero", neurons={n % 3: tuple(range(n + 1))})
        for n in range(30)
    ]
    allowed = 1024 * position_bytes(shape_of(model), "float32")
    measured = peak_bytes(lambda: score_texts(model, texts, conditions, TokenBudget(1024)))
    assert measured < allowed


def test_a_budget_in_bytes_on_cpu(tiny_model):
    model = tiny_model("llama")
    each = position_bytes(shape_of(model), "float32")

    def positions(**options) -> int:
        return first_budget(model, ModelSpec(path="x", **options))

    assert positions(batch_memory_gb=each * 100.5 / 1e9) == 100
    assert positions(batch_memory_gb=each / 2 / 1e9) == 1
    assert positions(batch_memory_gb=each * 100.5 / 1e9, max_batch_tokens=7) == 7
    assert positions(batch_memory_gb=each * 100.5 / 1e9, max_batch_tokens=101) == 100
    assert positions(batch_memory_gb=1000) == MOST_POSITIONS


def test_eager_attention_leaves_room_for_its_scores(tiny_model):
    plain, eager = (tiny_model(name) for name in ("gemma3_text", "gemma2"))
    assert eager.checkpoint.attention == "eager"
    spec = ModelSpec(path="x", batch_memory_gb=1e-3)
    assert first_budget(eager, spec) < first_budget(plain, spec)


def test_a_budget_ends_at_one_position():
    budget = TokenBudget(5)
    budget.halve()
    budget.halve()
    assert budget.positions == 1
    with pytest.raises(MemoryError, match="one token position"):
        budget.halve()
